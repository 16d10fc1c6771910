"""A bank that takes a mistake back sends a file that we have seen before; it then is the day's latest again."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("GRANT UPDATE (findings, cut_at, received_at) ON settlement_files TO payments_app")
    op.execute("CREATE INDEX settlement_files_of_day ON settlement_files (day, received_at)")


def downgrade() -> None:
    op.execute("DROP INDEX settlement_files_of_day")
    op.execute("REVOKE UPDATE (findings, cut_at, received_at) ON settlement_files FROM payments_app")
