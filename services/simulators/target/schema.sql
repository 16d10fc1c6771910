CREATE TABLE IF NOT EXISTS effects (
    id bigserial PRIMARY KEY,
    target text NOT NULL CHECK (target IN ('both', 'dedup-only', 'fencing-only')),
    run_id text,
    job_id text NOT NULL,
    scheduled_for text NOT NULL,
    epoch bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied bool NOT NULL,
    reason text NOT NULL
);

CREATE TABLE IF NOT EXISTS epochs (
    target text PRIMARY KEY,
    highest bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS applied_runs (
    target text NOT NULL,
    run_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (target, run_id)
);
