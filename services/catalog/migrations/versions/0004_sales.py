"""What was sold: each paid order once, and what could not be taken from the stock because there was no more."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# event_id is the inbox: a payment's event that comes twice is there already. No reference to products: a sale outlives one.
SALES = (
    """
    CREATE TABLE sales (
        event_id text COLLATE "C" PRIMARY KEY CHECK (length(event_id) BETWEEN 1 AND 100),
        payment_id text NOT NULL CHECK (length(payment_id) BETWEEN 1 AND 100),
        product_id uuid NOT NULL,
        sku text NOT NULL,
        quantity integer NOT NULL CHECK (quantity > 0),
        short integer NOT NULL CHECK (short BETWEEN 0 AND quantity),
        sold_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX sales_age ON sales (sold_at)",
    "CREATE INDEX sales_payment ON sales (payment_id)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON sales TO catalog_app",
)


def upgrade() -> None:
    for statement in SALES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("sales are not taken back; restore a backup instead")
