CREATE TABLE IF NOT EXISTS charges (
    id text PRIMARY KEY,
    reference text UNIQUE,
    source text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    status text NOT NULL CHECK (status IN ('authorised', 'captured', 'voided', 'declined')),
    captured bigint NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND amount),
    refunded bigint NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND captured),
    created_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS effects (
    id bigserial PRIMARY KEY,
    charge_id text NOT NULL,
    reference text,
    kind text NOT NULL CHECK (kind IN ('authorise', 'capture', 'void', 'refund')),
    amount bigint NOT NULL,
    at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS references_seen (
    reference text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('charge', 'capture', 'void', 'refund', 'cancelled')),
    fingerprint text NOT NULL,
    subject text NOT NULL,
    answer text NOT NULL,
    seen_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS requests (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL,
    path text NOT NULL,
    reference text,
    source text,
    outcome text NOT NULL,
    behaviour text,
    shard smallint
);

-- A record that an earlier version has begun is gone on with.
ALTER TABLE requests ADD COLUMN IF NOT EXISTS shard smallint;
