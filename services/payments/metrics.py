"""All metrics of the payments processes beyond the RED metrics of the HTTP shell."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.payments.reconcile import FindingKind

BANK_CALLS = Histogram(
    "payments_bank_call_seconds",
    "Time of a call to the bank; outcome is done, refused or unknown",
    ["call", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BANK_UNKNOWN = Counter("payments_bank_unknown_total", "Calls to the bank whose outcome nobody knows", ["reason"])
BREAKER_STATE = Gauge(
    "payments_bank_breaker_state", "Breaker before a shard of the bank: 0 closed, 1 half-open, 2 open", ["shard"]
)
BREAKER_CHANGES = Counter("payments_bank_breaker_changes_total", "States entered", ["shard", "state", "reason"])
BANK_REFUSED = Counter("payments_bank_refused_total", "Commands refused because the shard's breaker is open", ["shard"])
OPERATIONS = Counter("payments_operations_total", "Operations by their latest outcome", ["kind", "outcome"])
CERTAINTY = Histogram(
    "payments_time_to_certainty_seconds",
    "From the moment an operation became unknown to its final answer",
    ["kind"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 300, 3600),
)
REPLAYS = Counter("payments_idempotent_replays_total", "Requests answered from a stored response")
ABANDONED = Counter(
    "payments_requests_abandoned_total", "Requests whose deadline was over or whose caller left first", ["reason"]
)
WASTED = Counter(
    "payments_wasted_work_seconds_total", "Time of those requests, from their head to the end of their work", ["reason"]
)
SHED = Counter("payments_requests_shed_total", "Requests refused because too many were in flight")

UNKNOWN_OPERATIONS = Gauge("payments_unknown_operations", "Operations whose outcome is not known")
UNKNOWN_OLDEST = Gauge("payments_unknown_oldest_seconds", "Age of the oldest of them; 0 if there is none")

OUTBOX_ROWS = Gauge("payments_outbox_unpublished", "Events waiting for the relay")
OUTBOX_OLDEST = Gauge("payments_outbox_oldest_seconds", "Age of the oldest of them; 0 if there is none")
PUBLISHED = Counter("payments_events_published_total", "Events the broker has acknowledged", ["type"])
PUBLISH_FAILURES = Counter("payments_publish_failures_total", "Batches that the broker did not acknowledge whole")
RELAY_ACTIVE = Gauge("payments_relay_active", "1 in the relay that holds the lock, 0 in one that stands by")

FINDINGS = Gauge("payments_reconciliation_findings", "Open findings of the settlement days looked at", ["kind"])
RECONCILED_LINES = Counter("payments_reconciled_lines_total", "Lines of settlement files compared")
SCHEDULED = Counter(
    "payments_scheduled_reconciliations_total", "Orders of a schedule by what became of them", ["outcome"]
)
SCHEDULED_LAG = Gauge("payments_scheduled_reconciliations_lag_records", "Orders of a schedule that wait")

for _kind in FindingKind:
    FINDINGS.labels(_kind.value)
for _outcome in ("compared", "malformed_file", "known", "late", "parked"):
    SCHEDULED.labels(_outcome)
