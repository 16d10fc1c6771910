"""The trace of a product's last change: the log carries the column, so that what follows from the change joins its trace."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE products ADD COLUMN traceparent text")


def downgrade() -> None:
    raise NotImplementedError("products are not taken back; restore a backup instead")
