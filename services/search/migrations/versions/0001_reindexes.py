"""Reindexes, so that a killed one goes on where it was."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE reindexes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        prefix text NOT NULL,
        index_name text NOT NULL UNIQUE,
        mapping integer NOT NULL CHECK (mapping > 0),
        state text NOT NULL CHECK (state IN ('copying', 'verifying', 'ready', 'swapped', 'abandoned')),
        last_id uuid,
        copied bigint NOT NULL DEFAULT 0,
        repaired bigint NOT NULL DEFAULT 0,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE UNIQUE INDEX one_reindex_at_a_time ON reindexes (prefix) WHERE state IN ('copying', 'verifying', 'ready')",
    "GRANT USAGE ON SCHEMA public TO search_app",
    "GRANT SELECT, INSERT, UPDATE ON reindexes TO search_app",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
