"""A sending without an answer is given time before the next one; asking goes on meanwhile."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE operations
            ADD COLUMN unanswered integer NOT NULL DEFAULT 0 CHECK (unanswered >= 0),
            ADD COLUMN send_again_at timestamptz NOT NULL DEFAULT '-infinity'
        """
    )
    op.execute("GRANT UPDATE (unanswered, send_again_at) ON operations TO payments_app")


def downgrade() -> None:
    op.execute("ALTER TABLE operations DROP COLUMN unanswered, DROP COLUMN send_again_at")
