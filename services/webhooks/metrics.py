"""All metrics of the webhooks processes beyond the RED metrics of the HTTP shell. No label carries an id of a customer."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.webhooks.domain import DeadReason

MESSAGES = Counter(
    "webhooks_messages_total", "Messages taken in; result is new, known or refused", ["origin", "result"]
)
SHED = Counter("webhooks_requests_shed_total", "Requests refused; reason is busy or backlog", ["reason"])
ACCEPT_BATCH = Histogram(
    "webhooks_accept_batch_messages", "Messages that shared a commit", buckets=(1, 2, 5, 10, 20, 50, 100, 200)
)
BACKLOG = Gauge("webhooks_backlog_deliveries", "Scheduled deliveries of all applications")

ATTEMPTS = Counter("webhooks_attempts_total", "Attempts by outcome, as in the log", ["outcome"])
ATTEMPT_SECONDS = Histogram(
    "webhooks_attempt_seconds",
    "From the call to the receiver's status line",
    ["outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0),
)
FIRST_ATTEMPT_DELAY = Histogram(
    "webhooks_first_attempt_delay_seconds",
    "From the message's commit to the beginning of its first attempt",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 600.0),
)
DEAD = Counter("webhooks_dead_total", "Deliveries given up", ["reason"])
IN_FLIGHT = Gauge("webhooks_attempts_in_flight", "Attempts under way and outcomes not yet committed")
SLOW_IN_FLIGHT = Gauge("webhooks_slow_attempts_in_flight", "Of these, to endpoints that time out or are not known yet")
OUTCOME_BATCH = Histogram(
    "webhooks_outcome_batch_attempts", "Outcomes that shared a commit", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
TAKEN_BACK = Counter("webhooks_claims_taken_back_total", "Claims whose dispatcher did not finish them")
STALE_OUTCOMES = Counter("webhooks_stale_outcomes_total", "Outcomes of claims that were somebody else's by then")
DISABLED = Counter("webhooks_endpoints_disabled_total", "Endpoints switched off by the service", ["reason"])

SOURCE_RECORDS = Counter(
    "webhooks_source_records_total", "Kafka records; result is taken, known, unwanted or parked", ["result"]
)
SOURCE_LAG = Gauge("webhooks_source_lag_records", "Records on the topic that are not worked on yet")

REPLAYED = Counter("webhooks_replayed_total", "Deliveries scheduled again by replays")
REPLAYS_RUNNING = Gauge("webhooks_replays_running", "Replays not finished")
FORGOTTEN = Counter("webhooks_messages_forgotten_total", "Messages deleted after their retention")
OUTBOX_ROWS = Gauge("webhooks_outbox_unpublished", "Operational events waiting for Kafka")
PUBLISHED = Counter("webhooks_events_published_total", "Operational events the broker has acknowledged", ["type"])

for _reason in DeadReason:
    DEAD.labels(_reason.value)
