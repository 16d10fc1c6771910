CREATE TABLE IF NOT EXISTS requests (
    id bigserial PRIMARY KEY,
    receiver integer NOT NULL,
    webhook_id text,
    event_id text,
    at timestamptz NOT NULL,
    status integer,
    verified boolean NOT NULL,
    behaviour text
);
