"""Applications, endpoints, event types, messages, deliveries, attempts, replays, outbox.

Deliveries are the queue. Foreign keys stand where rows are few; deliveries and attempts have none, because checking one
locks the row it points at (a write to the parent for each child), and because only the sweep deletes, children first.
The role webhooks_app owns nothing and gets the rights listed last.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# RFC 9562: 48 bits of milliseconds, version 7, the rest random. Postgres has uuidv7() from 18 on.
IDS = (
    """
    CREATE FUNCTION uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
        SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid
    $$
    """,
)

APPLICATIONS = (
    # merchant_id: whose payments' events the application gets from Kafka.
    """
    CREATE TABLE applications (
        id text PRIMARY KEY CHECK (id ~ '^app_[a-z0-9]+$'),
        name text NOT NULL,
        merchant_id text,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX applications_of_merchant ON applications (merchant_id)",
    # A key has at least 128 random bits, so a plain hash can't be guessed backwards and is cheap on each request.
    """
    CREATE TABLE api_keys (
        key_sha256 bytea PRIMARY KEY CHECK (length(key_sha256) = 32),
        application_id text NOT NULL REFERENCES applications,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz
    )
    """,
    """
    CREATE TABLE event_types (
        application_id text NOT NULL REFERENCES applications,
        name text NOT NULL,
        description text,
        schema bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (application_id, name)
    )
    """,
)

# failing_since: the first failure after the last success. secrets: sealed, the application never sees them in the database.
ENDPOINTS = (
    """
    CREATE TABLE endpoints (
        id uuid PRIMARY KEY,
        application_id text NOT NULL REFERENCES applications,
        url text NOT NULL,
        description text,
        event_types text[],
        secrets bytea NOT NULL,
        rate_per_second integer CHECK (rate_per_second > 0),
        max_in_flight integer CHECK (max_in_flight > 0),
        enabled boolean NOT NULL DEFAULT true,
        disabled_reason text CHECK (disabled_reason IN ('owner', 'gone', 'failing')),
        disabled_at timestamptz,
        failing_since timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        deleted_at timestamptz,
        CONSTRAINT disabled_has_reason CHECK (enabled = (disabled_reason IS NULL) AND enabled = (disabled_at IS NULL)),
        CONSTRAINT deleted_is_disabled CHECK (deleted_at IS NULL OR NOT enabled)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX endpoints_of_application ON endpoints (application_id, id) WHERE deleted_at IS NULL",
    # event_type '*' is every type but the operational ones. Rows go when the endpoint is deleted.
    """
    CREATE TABLE subscriptions (
        application_id text NOT NULL,
        event_type text NOT NULL,
        endpoint_id uuid NOT NULL REFERENCES endpoints,
        PRIMARY KEY (application_id, event_type, endpoint_id)
    )
    """,
    "CREATE INDEX subscriptions_of_endpoint ON subscriptions (endpoint_id)",
)

MESSAGES = (
    """
    CREATE TABLE messages (
        id uuid PRIMARY KEY,
        application_id text NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        event_type text NOT NULL,
        operational boolean NOT NULL DEFAULT false,
        payload bytea NOT NULL CHECK (length(payload) <= 262144),
        fingerprint bytea NOT NULL,
        traceparent text,
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX messages_event ON messages (application_id, event_id)",
    "CREATE INDEX messages_of_application ON messages (application_id, id)",
)

# attempt_id is the fencing token of a claim: an outcome counts only under the id that its claim was given.
DELIVERIES = (
    """
    CREATE TABLE deliveries (
        id uuid PRIMARY KEY,
        message_id uuid NOT NULL,
        endpoint_id uuid NOT NULL,
        application_id text NOT NULL,
        state text NOT NULL CHECK (state IN ('scheduled', 'in_flight', 'delivered', 'dead')),
        attempts integer NOT NULL DEFAULT 0,
        step integer NOT NULL DEFAULT 0,
        next_attempt_at timestamptz,
        attempt_id uuid,
        claimed_at timestamptz,
        claimed_until timestamptz,
        dead_reason text CHECK (dead_reason IN ('exhausted', 'gone', 'endpoint_disabled', 'endpoint_deleted',
                                                     'backlog_full')),
        exhausted boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        CONSTRAINT scheduled_has_time CHECK ((state = 'scheduled') = (next_attempt_at IS NOT NULL)),
        CONSTRAINT in_flight_has_claim CHECK (state <> 'in_flight' OR (attempt_id IS NOT NULL AND claimed_until IS NOT NULL)),
        CONSTRAINT dead_has_reason CHECK ((state = 'dead') = (dead_reason IS NOT NULL))
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
            autovacuum_analyze_scale_factor = 0.1)
    """,
    "CREATE UNIQUE INDEX deliveries_once ON deliveries (message_id, endpoint_id)",
    "CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_attempt_at) INCLUDE (application_id) WHERE state = 'scheduled'",
    "CREATE INDEX deliveries_claimed ON deliveries (claimed_until) WHERE state = 'in_flight'",
    "CREATE INDEX deliveries_of_endpoint ON deliveries (endpoint_id, message_id)",
    "CREATE INDEX deliveries_dead ON deliveries (application_id, message_id) WHERE state = 'dead'",
    # number counts from 1 within the delivery.
    """
    CREATE TABLE attempts (
        id uuid PRIMARY KEY,
        delivery_id uuid NOT NULL,
        endpoint_id uuid NOT NULL,
        number integer NOT NULL,
        started_at timestamptz NOT NULL,
        finished_at timestamptz,
        outcome text NOT NULL CHECK (outcome IN ('delivered', 'refused', 'timed_out', 'unreachable', 'blocked', 'interrupted')),
        status integer,
        error text,
        response_body bytea CHECK (length(response_body) <= 4096)
    )
    """,
    "CREATE INDEX attempts_of_delivery ON attempts (delivery_id, number)",
    "CREATE INDEX attempts_of_endpoint ON attempts (endpoint_id, id)",
)

# cursor_*: the last delivery looked at, moved in the commit that replays; so a killed keeper goes on behind it.
REPLAYS = (
    """
    CREATE TABLE replays (
        id uuid PRIMARY KEY,
        application_id text NOT NULL REFERENCES applications,
        idempotency_key text COLLATE "C" NOT NULL,
        fingerprint bytea NOT NULL,
        endpoint_id uuid,
        first_message uuid NOT NULL,
        last_message uuid NOT NULL,
        states text[] NOT NULL,
        rate_per_second integer NOT NULL CHECK (rate_per_second > 0),
        matched bigint NOT NULL,
        replayed bigint NOT NULL DEFAULT 0,
        cursor_message uuid NOT NULL,
        cursor_endpoint uuid NOT NULL,
        state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done')),
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        UNIQUE (application_id, idempotency_key)
    )
    """,
    "CREATE INDEX replays_running ON replays (id) WHERE state = 'running'",
)

# Published rows are deleted, so the whole table is what is unpublished.
OUTBOX = (
    """
    CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id uuid NOT NULL,
        type text NOT NULL,
        application_id text NOT NULL,
        body bytea NOT NULL,
        traceparent text,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)

RIGHTS = (
    "GRANT USAGE ON SCHEMA public TO webhooks_app",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO webhooks_app",
    (
        "GRANT INSERT ON event_types, endpoints, subscriptions, messages, deliveries, attempts, replays, outbox "
        "TO webhooks_app"
    ),
    "GRANT UPDATE ON event_types, endpoints, deliveries, attempts, replays, outbox TO webhooks_app",
    "GRANT DELETE ON event_types, subscriptions, messages, deliveries, attempts, replays, outbox TO webhooks_app",
)


def upgrade() -> None:
    for part in (IDS, APPLICATIONS, ENDPOINTS, MESSAGES, DELIVERIES, REPLAYS, OUTBOX, RIGHTS):
        for statement in part:
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("messages are not taken back; restore a backup instead")
