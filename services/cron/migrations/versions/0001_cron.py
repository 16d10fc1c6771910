"""Tenants, jobs, runs, leases.

The rules are kept here as well as in domain.py: one run an instant, one exclusive run at a time, epochs that only grow. The
role cron_app owns nothing and gets the rights listed last.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TENANTS = (
    """
    CREATE TABLE tenants (
        id text PRIMARY KEY,
        name text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # A key has at least 128 random bits, so a plain hash can't be guessed backwards and is cheap on each request.
    """
    CREATE TABLE api_keys (
        key_sha256 bytea PRIMARY KEY CHECK (length(key_sha256) = 32),
        tenant_id text NOT NULL REFERENCES tenants,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz
    )
    """,
)

# next_at: the first instant without a row in runs. turn: grows with each change by anybody, so that a plan made from an
# older reading is refused. version: grows with each change by the owner (the ETag).
JOBS = (
    """
    CREATE TABLE jobs (
        id uuid PRIMARY KEY,
        tenant_id text NOT NULL REFERENCES tenants,
        name text NOT NULL,
        cron text,
        zone text,
        every_seconds integer,
        anchor timestamptz,
        target_url text,
        target_topic text,
        target_key text,
        target_body text NOT NULL,
        misfire_policy text NOT NULL CHECK (misfire_policy IN ('skip', 'once', 'all')),
        misfire_cap integer NOT NULL CHECK (misfire_cap BETWEEN 1 AND 1000),
        misfire_deadline_seconds integer CHECK (misfire_deadline_seconds > 0),
        concurrency text NOT NULL CHECK (concurrency IN ('allow', 'forbid', 'replace')),
        jitter_seconds integer NOT NULL CHECK (jitter_seconds >= 0),
        retries integer NOT NULL CHECK (retries >= 0),
        timeout_seconds integer NOT NULL CHECK (timeout_seconds > 0),
        enabled boolean NOT NULL,
        version bigint NOT NULL DEFAULT 1,
        turn bigint NOT NULL DEFAULT 1,
        next_at timestamptz,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        deleted_at timestamptz,
        CONSTRAINT one_schedule CHECK (
            (cron IS NOT NULL AND zone IS NOT NULL AND every_seconds IS NULL AND anchor IS NULL)
            OR (cron IS NULL AND zone IS NULL AND every_seconds > 0 AND anchor IS NOT NULL)),
        CONSTRAINT one_target CHECK ((target_url IS NULL) <> (target_topic IS NULL)),
        CONSTRAINT deleted_is_never_due CHECK (deleted_at IS NULL OR next_at IS NULL)
    ) WITH (fillfactor = 70)
    """,
    "CREATE UNIQUE INDEX jobs_name ON jobs (tenant_id, name) WHERE deleted_at IS NULL",
    "CREATE INDEX jobs_of_tenant ON jobs (tenant_id, id) WHERE deleted_at IS NULL",
    "CREATE INDEX jobs_due ON jobs (next_at) WHERE next_at IS NOT NULL",
)

# A row is an instant, or `covers` of them when an outage left more than ten thousand. due_at is the instant with its jitter
# and never changes; attempt_at is when the next try may begin. outcome columns stay empty for what was never fired.
RUNS = (
    """
    CREATE TABLE runs (
        id uuid PRIMARY KEY,
        job_id uuid NOT NULL REFERENCES jobs,
        kind text NOT NULL DEFAULT 'schedule' CHECK (kind IN ('schedule', 'manual')),
        scheduled_for timestamptz NOT NULL,
        due_at timestamptz NOT NULL,
        attempt_at timestamptz NOT NULL,
        deadline_at timestamptz,
        state text NOT NULL CHECK (state IN ('waiting', 'firing', 'fired', 'late', 'coalesced', 'skipped', 'failed')),
        reason text,
        covers integer NOT NULL DEFAULT 1 CHECK (covers > 0),
        exclusive boolean NOT NULL,
        idempotency_key text COLLATE "C",
        epoch bigint,
        node text,
        attempts integer NOT NULL DEFAULT 0,
        status smallint,
        created_at timestamptz NOT NULL DEFAULT now(),
        fired_at timestamptz,
        finished_at timestamptz,
        CONSTRAINT one_run_an_instant UNIQUE (job_id, scheduled_for),
        CONSTRAINT firing_has_an_epoch CHECK (state <> 'firing' OR (epoch IS NOT NULL AND fired_at IS NOT NULL)),
        CONSTRAINT ended_has_time CHECK ((state IN ('waiting', 'firing')) = (finished_at IS NULL)),
        CONSTRAINT keys_are_for_manual_runs CHECK ((idempotency_key IS NULL) = (kind = 'schedule'))
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX runs_waiting ON runs (attempt_at) WHERE state = 'waiting'",
    "CREATE INDEX runs_live ON runs (job_id) WHERE state IN ('waiting', 'firing')",
    "CREATE INDEX runs_firing ON runs (epoch) WHERE state = 'firing'",
    "CREATE UNIQUE INDEX runs_one_exclusive ON runs (job_id) WHERE state = 'firing' AND exclusive",
    "CREATE UNIQUE INDEX runs_key ON runs (job_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
    """
    CREATE FUNCTION keep_runs() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.state IN ('waiting', 'firing') AND coalesce(NEW.epoch, 0) >= coalesce(OLD.epoch, 0) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'a run that is % does not become %, nor does its epoch shrink', OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'keep_runs';
    END $$
    """,
    """
    CREATE TRIGGER keep_runs BEFORE UPDATE ON runs
        FOR EACH ROW WHEN (OLD.finished_at IS NOT NULL OR NEW.epoch IS DISTINCT FROM OLD.epoch)
        EXECUTE FUNCTION keep_runs()
    """,
)

LEASES = (
    """
    CREATE TABLE leases (
        name text PRIMARY KEY,
        holder text NOT NULL,
        node text NOT NULL,
        epoch bigint NOT NULL CHECK (epoch > 0),
        acquired_at timestamptz NOT NULL,
        renewed_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE FUNCTION keep_epochs() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'an epoch does not shrink' USING ERRCODE = 'check_violation', CONSTRAINT = 'keep_epochs';
    END $$
    """,
    """
    CREATE TRIGGER keep_epochs BEFORE UPDATE ON leases
        FOR EACH ROW WHEN (NEW.epoch < OLD.epoch OR (NEW.epoch = OLD.epoch AND NEW.holder <> OLD.holder))
        EXECUTE FUNCTION keep_epochs()
    """,
)

RIGHTS = (
    "GRANT USAGE ON SCHEMA public TO cron_app",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO cron_app",
    "GRANT INSERT ON jobs, runs, leases TO cron_app",
    "GRANT UPDATE ON jobs, leases TO cron_app",
    (
        "GRANT UPDATE (attempt_at, state, reason, epoch, node, attempts, status, fired_at, finished_at) ON runs TO cron_app"
    ),
    "GRANT DELETE ON runs, jobs TO cron_app",
)


def upgrade() -> None:
    for part in (TENANTS, JOBS, RUNS, LEASES, RIGHTS):
        for statement in part:
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("an audit is not taken back; restore a backup instead")
