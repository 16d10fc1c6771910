"""An operation remembers the trace that began it, so that who resolves or reconciles it later can point there."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE operations ADD COLUMN traceparent text")


def downgrade() -> None:
    op.execute("ALTER TABLE operations DROP COLUMN traceparent")
