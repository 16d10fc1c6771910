"""A payment carries what its merchant gave it along; reconciliations that a schedule has ordered are kept, each once."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# open_findings: of all days, after the comparison. traceparent: the comparison's own span, which is in the schedule's trace.
ROUNDS = (
    """
    CREATE TABLE scheduled_reconciliations (
        run_id text PRIMARY KEY CHECK (length(run_id) BETWEEN 1 AND 100),
        outcome text NOT NULL CHECK (outcome IN ('compared', 'malformed_file')),
        open_findings integer NOT NULL CHECK (open_findings >= 0),
        traceparent text,
        compared_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX scheduled_reconciliations_age ON scheduled_reconciliations (compared_at)",
    "GRANT SELECT, INSERT, DELETE ON scheduled_reconciliations TO payments_app",
)


def upgrade() -> None:
    op.execute("ALTER TABLE payments ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}'")
    for statement in ROUNDS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE scheduled_reconciliations")
    op.execute("ALTER TABLE payments DROP COLUMN metadata")
