"""Business rules, and a number that grows with each change of them."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE rules (
        id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
        action text NOT NULL CHECK (action IN ('pin', 'bury', 'exclude')),
        products uuid[] NOT NULL,
        brands integer[] NOT NULL,
        categories text[] NOT NULL,
        query text,
        category text,
        priority integer NOT NULL CHECK (priority BETWEEN -1000 AND 1000),
        starts_at timestamptz,
        ends_at timestamptz,
        note text NOT NULL,
        version bigint NOT NULL DEFAULT 1,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT names_something CHECK (cardinality(products) + cardinality(brands) + cardinality(categories) > 0),
        CONSTRAINT one_scope CHECK (query IS NULL OR category IS NULL),
        CONSTRAINT starts_before_it_ends CHECK (starts_at < ends_at)
    )
    """,
    "CREATE TABLE rule_generation (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), generation bigint NOT NULL)",
    "INSERT INTO rule_generation (generation) VALUES (0)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON rules TO search_app",
    "GRANT SELECT, UPDATE ON rule_generation TO search_app",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("restore a backup instead")
