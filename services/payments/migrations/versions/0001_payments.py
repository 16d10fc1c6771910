"""Merchants, payments, operations, idempotency keys, ledger, outbox, reconciliation.

The rules of money are kept here as well as in domain.py: checks, a transition table with a trigger, one live operation a
payment, a ledger that only grows and balances at COMMIT. The role payments_app owns nothing and gets the rights listed last.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MERCHANTS = (
    """
    CREATE TABLE merchants (
        id text PRIMARY KEY,
        name text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # A key has at least 128 random bits, so a plain hash can't be guessed backwards and is cheap on each request.
    """
    CREATE TABLE api_keys (
        key_sha256 bytea PRIMARY KEY CHECK (length(key_sha256) = 32),
        merchant_id text NOT NULL REFERENCES merchants,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz
    )
    """,
)

# active_reference is NULL once the payment failed: it then no longer blocks its reference. A unique index on
# (reference) WHERE status <> 'failed' would say the same, but would make every change of status a non-HOT update.
PAYMENTS = (
    """
    CREATE TABLE payments (
        id uuid PRIMARY KEY,
        merchant_id text NOT NULL,
        reference text NOT NULL,
        active_reference text,
        source text NOT NULL,
        amount bigint NOT NULL CHECK (amount > 0),
        currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
        automatic_capture boolean NOT NULL,
        description text,
        status text NOT NULL CHECK (status IN ('processing', 'authorised', 'captured', 'voided', 'partially_refunded',
                                               'refunded', 'failed', 'expired')),
        captured_amount bigint NOT NULL DEFAULT 0,
        refunded_amount bigint NOT NULL DEFAULT 0,
        charge_id text,
        failure_code text,
        event_sequence bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        expires_at timestamptz,
        CONSTRAINT captured_within_amount CHECK (captured_amount BETWEEN 0 AND amount),
        CONSTRAINT refunded_within_captured CHECK (refunded_amount BETWEEN 0 AND captured_amount),
        CONSTRAINT amounts_agree_with_status CHECK (
            CASE status
                WHEN 'captured' THEN captured_amount > 0 AND refunded_amount = 0
                WHEN 'partially_refunded' THEN refunded_amount > 0 AND refunded_amount < captured_amount
                WHEN 'refunded' THEN captured_amount > 0 AND refunded_amount = captured_amount
                ELSE captured_amount = 0
            END),
        CONSTRAINT failed_frees_the_reference CHECK ((status = 'failed') = (active_reference IS NULL)),
        CONSTRAINT active_reference_is_the_reference CHECK (active_reference IS NULL OR active_reference = reference)
    ) WITH (fillfactor = 70)
    """,
    "CREATE UNIQUE INDEX payments_active_reference ON payments (merchant_id, active_reference)",
    "CREATE INDEX payments_of_merchant ON payments (merchant_id, id)",
    "CREATE INDEX payments_expiring ON payments (expires_at) WHERE expires_at IS NOT NULL",
    """
    CREATE TABLE payment_transitions (
        before text NOT NULL,
        after text NOT NULL,
        PRIMARY KEY (before, after)
    )
    """,
    """
    INSERT INTO payment_transitions (before, after) VALUES
        ('processing', 'authorised'), ('processing', 'captured'), ('processing', 'failed'),
        ('authorised', 'captured'), ('authorised', 'voided'), ('authorised', 'expired'),
        ('captured', 'partially_refunded'), ('captured', 'refunded'),
        ('partially_refunded', 'partially_refunded'), ('partially_refunded', 'refunded')
    """,
    """
    CREATE FUNCTION keep_payment_transitions() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            IF NEW.status = 'processing' THEN RETURN NEW; END IF;
        ELSIF EXISTS (SELECT FROM payment_transitions WHERE before = OLD.status AND after = NEW.status) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'illegal transition of a payment to %', NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'payment_transition';
    END $$
    """,
    """
    CREATE TRIGGER payment_begins BEFORE INSERT ON payments
        FOR EACH ROW WHEN (NEW.status <> 'processing') EXECUTE FUNCTION keep_payment_transitions()
    """,
    """
    CREATE TRIGGER payment_transition BEFORE UPDATE ON payments
        FOR EACH ROW WHEN (OLD.status <> NEW.status OR OLD.captured_amount <> NEW.captured_amount
                           OR OLD.refunded_amount <> NEW.refunded_amount)
        EXECUTE FUNCTION keep_payment_transitions()
    """,
)

# due_at: until then the operation belongs to whoever holds the lease; afterwards anyone may take it up. Database time.
OPERATIONS = (
    """
    CREATE TABLE operations (
        id uuid PRIMARY KEY,
        payment_id uuid NOT NULL REFERENCES payments,
        kind text NOT NULL CHECK (kind IN ('authorise', 'capture', 'void', 'refund')),
        amount bigint NOT NULL CHECK (amount > 0),
        status text NOT NULL CHECK (status IN ('pending', 'unknown', 'succeeded', 'failed')),
        bank_reference text NOT NULL,
        bank_id text,
        failure_code text,
        attempts integer NOT NULL DEFAULT 0,
        expiring boolean NOT NULL DEFAULT false,
        idempotency_key text COLLATE "C",
        due_at timestamptz NOT NULL,
        unknown_since timestamptz,
        created_at timestamptz NOT NULL,
        resolved_at timestamptz,
        CONSTRAINT resolved_has_time CHECK ((status IN ('succeeded', 'failed')) = (resolved_at IS NOT NULL)),
        CONSTRAINT only_voids_expire CHECK (kind = 'void' OR NOT expiring)
    ) WITH (fillfactor = 70)
    """,
    "CREATE UNIQUE INDEX operations_one_live ON operations (payment_id) WHERE status IN ('pending', 'unknown')",
    "CREATE INDEX operations_due ON operations (due_at) WHERE status IN ('pending', 'unknown')",
    """
    CREATE FUNCTION keep_operation_transitions() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.status IN ('pending', 'unknown') AND NEW.status <> 'pending' THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'illegal transition of an operation to %', NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'operation_transition';
    END $$
    """,
    """
    CREATE TRIGGER operation_begins BEFORE INSERT ON operations
        FOR EACH ROW WHEN (NEW.status <> 'pending') EXECUTE FUNCTION keep_operation_transitions()
    """,
    """
    CREATE TRIGGER operation_transition BEFORE UPDATE ON operations
        FOR EACH ROW WHEN (OLD.status <> NEW.status OR OLD.status IN ('succeeded', 'failed'))
        EXECUTE FUNCTION keep_operation_transitions()
    """,
)

IDEMPOTENCY = (
    """
    CREATE TABLE idempotency_keys (
        merchant_id text NOT NULL,
        key text COLLATE "C" NOT NULL CHECK (key ~ '^[!-~]{1,255}$'),
        fingerprint bytea NOT NULL,
        payment_id uuid NOT NULL,
        operation_id uuid NOT NULL,
        response_status smallint,
        response_body bytea,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (merchant_id, key),
        CONSTRAINT response_is_whole CHECK ((response_status IS NULL) = (response_body IS NULL))
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at)",
)

# A ledger transaction has the id of its operation: an operation moves money once.
LEDGER = (
    """
    CREATE TABLE ledger_transactions (
        id uuid PRIMARY KEY REFERENCES operations,
        payment_id uuid NOT NULL,
        kind text NOT NULL CHECK (kind IN ('capture', 'refund')),
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE ledger_entries (
        transaction_id uuid NOT NULL REFERENCES ledger_transactions,
        line smallint NOT NULL,
        account text NOT NULL,
        amount bigint NOT NULL CHECK (amount <> 0),
        currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
        PRIMARY KEY (transaction_id, line)
    )
    """,
    """
    CREATE FUNCTION ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM ledger_entries WHERE transaction_id = NEW.transaction_id
                   GROUP BY currency HAVING sum(amount) <> 0) THEN
            RAISE EXCEPTION 'ledger transaction % does not sum to zero', NEW.transaction_id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'ledger_balances';
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER ledger_balances AFTER INSERT ON ledger_entries
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_balances()
    """,
)

# Published rows are deleted, so the whole table is what is unpublished, and the primary key is the relay's index.
OUTBOX = (
    """
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        payment_id uuid NOT NULL,
        sequence bigint NOT NULL,
        event_id uuid NOT NULL,
        type text NOT NULL,
        body bytea NOT NULL,
        traceparent text,
        created_at timestamptz NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
    """,
    """
    CREATE TABLE bank_events (
        id text PRIMARY KEY,
        received_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX bank_events_received ON bank_events (received_at)",
    """
    CREATE FUNCTION demand(holds boolean, what text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        IF holds THEN RETURN true; END IF;
        RAISE EXCEPTION '%', what USING ERRCODE = 'check_violation', CONSTRAINT = 'demand';
    END $$
    """,
)

RECONCILIATION = (
    """
    CREATE TABLE settlement_files (
        sha256 bytea PRIMARY KEY,
        day date NOT NULL,
        lines integer NOT NULL,
        findings integer NOT NULL,
        cut_at timestamptz NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # cleared_at: a later version of the same day's file no longer shows it.
    """
    CREATE TABLE reconciliation_findings (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        day date NOT NULL,
        kind text NOT NULL CHECK (kind IN ('missing_here', 'missing_there', 'amount', 'duplicate', 'late')),
        side text NOT NULL CHECK (side IN ('payments', 'ledger', 'bank')),
        subject text NOT NULL,
        operation_kind text NOT NULL,
        payment_id uuid,
        expected_amount bigint,
        actual_amount bigint,
        currency text NOT NULL,
        found_at timestamptz NOT NULL DEFAULT now(),
        cleared_at timestamptz,
        UNIQUE (day, kind, side, subject, operation_kind)
    )
    """,
)

RIGHTS = (
    "GRANT USAGE ON SCHEMA public TO payments_app",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO payments_app",
    (
        "GRANT INSERT ON payments, operations, idempotency_keys, ledger_transactions, ledger_entries, outbox, bank_events, "
        "settlement_files, reconciliation_findings TO payments_app"
    ),
    (
        "GRANT UPDATE (status, active_reference, captured_amount, refunded_amount, charge_id, failure_code, event_sequence, "
        "updated_at, expires_at) ON payments TO payments_app"
    ),
    (
        "GRANT UPDATE (status, bank_id, failure_code, attempts, due_at, unknown_since, resolved_at) ON operations "
        "TO payments_app"
    ),
    "GRANT UPDATE, DELETE ON idempotency_keys TO payments_app",
    "GRANT DELETE ON outbox, bank_events TO payments_app",
    "GRANT UPDATE (actual_amount, expected_amount, cleared_at) ON reconciliation_findings TO payments_app",
)


def upgrade() -> None:
    for part in (MERCHANTS, PAYMENTS, OPERATIONS, IDEMPOTENCY, LEDGER, OUTBOX, RECONCILIATION, RIGHTS):
        for statement in part:
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
