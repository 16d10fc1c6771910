"""API keys, idempotency keys, imports; ids for new brands and categories; the reference tables join the publication."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ACCESS = (
    """
    CREATE TABLE api_keys (
        key_sha256 bytea PRIMARY KEY CHECK (length(key_sha256) = 32),
        owner text NOT NULL CHECK (length(owner) BETWEEN 1 AND 100),
        revoked_at timestamptz
    )
    """,
    """
    CREATE TABLE idempotency_keys (
        owner text NOT NULL,
        key text COLLATE "C" NOT NULL CHECK (key ~ '^[!-~]{1,255}$'),
        fingerprint bytea NOT NULL,
        product_id uuid NOT NULL,
        response_body bytea NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (owner, key)
    )
    """,
    "CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at)",
)

# next_line: all lines below it are decided, in the commit that wrote their products. Lines count from 1.
IMPORTS = (
    """
    CREATE TABLE imports (
        owner text NOT NULL,
        id text COLLATE "C" NOT NULL CHECK (id ~ '^[A-Za-z0-9._-]{1,100}$'),
        next_line bigint NOT NULL DEFAULT 1 CHECK (next_line >= 1),
        created bigint NOT NULL DEFAULT 0,
        updated bigint NOT NULL DEFAULT 0,
        unchanged bigint NOT NULL DEFAULT 0,
        rejected bigint NOT NULL DEFAULT 0,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz,
        PRIMARY KEY (owner, id)
    )
    """,
    "CREATE INDEX imports_age ON imports (moved_at)",
    """
    CREATE TABLE import_errors (
        owner text NOT NULL,
        import_id text COLLATE "C" NOT NULL,
        line bigint NOT NULL,
        problem text NOT NULL,
        PRIMARY KEY (owner, import_id, line),
        FOREIGN KEY (owner, import_id) REFERENCES imports ON DELETE CASCADE
    )
    """,
)

# By brand or category with the id behind it: whoever tells all products of a brand does so in portions.
# Generated catalogues number their brands and categories from 1; what people add begins far above.
TREE = (
    "CREATE SEQUENCE brands_id_seq AS integer START 1000000 OWNED BY brands.id",
    "ALTER TABLE brands ALTER COLUMN id SET DEFAULT nextval('brands_id_seq')",
    "CREATE SEQUENCE categories_id_seq AS integer START 1000000 OWNED BY categories.id",
    "ALTER TABLE categories ALTER COLUMN id SET DEFAULT nextval('categories_id_seq')",
    "CREATE INDEX products_brand ON products (brand_id, id)",
    "CREATE INDEX products_category ON products (category_id, id)",
)

RIGHTS = (
    "GRANT SELECT ON api_keys TO catalog_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys, imports, import_errors TO catalog_app",
    "GRANT USAGE ON SEQUENCE brands_id_seq, categories_id_seq TO catalog_app",
    "GRANT UPDATE, DELETE ON brands, categories TO catalog_app",
    "ALTER PUBLICATION catalog_search ADD TABLE brands, categories",
)


def upgrade() -> None:
    for part in (ACCESS, IMPORTS, TREE, RIGHTS):
        for statement in part:
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("products are not taken back; restore a backup instead")
