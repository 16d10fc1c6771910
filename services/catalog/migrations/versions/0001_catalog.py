"""Products and what belongs to them, fills, heartbeats; the publication that search reads.

Every table that search needs has the product's id in its key, so that all changes of one product stay in order. The role
catalog_app owns nothing and gets the rights listed last.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TREE = (
    """
    CREATE TABLE categories (
        id integer PRIMARY KEY,
        path text NOT NULL UNIQUE,
        names jsonb NOT NULL
    )
    """,
    """
    CREATE TABLE brands (
        id integer PRIMARY KEY,
        name text NOT NULL UNIQUE
    )
    """,
)

# version: grows with each change of the product or its variants (the ETag).
PRODUCTS = (
    """
    CREATE TABLE products (
        id uuid PRIMARY KEY,
        sku text NOT NULL UNIQUE CHECK (length(sku) BETWEEN 1 AND 64),
        title text NOT NULL CHECK (length(title) BETWEEN 1 AND 300),
        description text NOT NULL CHECK (length(description) <= 10000),
        language text NOT NULL CHECK (language IN ('en', 'de', 'fr', 'es')),
        brand_id integer NOT NULL REFERENCES brands,
        category_id integer NOT NULL REFERENCES categories,
        model text NOT NULL,
        attributes jsonb NOT NULL,
        price bigint NOT NULL CHECK (price BETWEEN 1 AND 100000000),
        currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
        stock bigint NOT NULL CHECK (stock BETWEEN 0 AND 1000000000),
        popularity bigint NOT NULL CHECK (popularity >= 0),
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        version bigint NOT NULL DEFAULT 1
    )
    """,
    """
    CREATE TABLE variants (
        product_id uuid NOT NULL REFERENCES products ON DELETE CASCADE,
        sku text NOT NULL UNIQUE CHECK (length(sku) BETWEEN 1 AND 64),
        attributes jsonb NOT NULL,
        price bigint NOT NULL CHECK (price BETWEEN 1 AND 100000000),
        stock bigint NOT NULL CHECK (stock BETWEEN 0 AND 1000000000),
        PRIMARY KEY (product_id, sku)
    )
    """,
)

# One row a generated catalogue: products below next_number are committed. And one that an idle database's log moves on by.
WORK = (
    """
    CREATE TABLE fills (
        seed bigint NOT NULL,
        products bigint NOT NULL CHECK (products >= 0),
        next_number bigint NOT NULL DEFAULT 0 CHECK (next_number BETWEEN 0 AND products),
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz,
        PRIMARY KEY (seed)
    )
    """,
    "CREATE TABLE heartbeats (id integer PRIMARY KEY, at timestamptz NOT NULL)",
)

RIGHTS = (
    "GRANT USAGE ON SCHEMA public TO catalog_app",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO catalog_app",
    "GRANT INSERT ON categories, brands, products, variants, fills, heartbeats TO catalog_app",
    "GRANT UPDATE ON brands, products, variants, fills, heartbeats TO catalog_app",
    "GRANT DELETE ON products, variants TO catalog_app",
    "CREATE PUBLICATION catalog_search FOR TABLE products, variants, heartbeats",
)


def upgrade() -> None:
    for part in (TREE, PRODUCTS, WORK, RIGHTS):
        for statement in part:
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("products are not taken back; restore a backup instead")
