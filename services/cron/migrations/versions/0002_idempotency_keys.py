"""Who lost the answer to `POST /v1/jobs` gets it again under the same Idempotency-Key."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE idempotency_keys (
            tenant_id text NOT NULL,
            key text COLLATE "C" NOT NULL CHECK (key ~ '^[!-~]{1,255}$'),
            fingerprint bytea NOT NULL,
            job_id uuid NOT NULL,
            response_body bytea NOT NULL,
            expires_at timestamptz NOT NULL,
            PRIMARY KEY (tenant_id, key)
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at)")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO cron_app")


def downgrade() -> None:
    op.execute("DROP TABLE idempotency_keys")
