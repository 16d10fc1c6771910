"""Payments: what customers are told, what the bank does, what nobody knows yet."""

from __future__ import annotations

from infra.grafana.http_panels import red, routes, saturation
from infra.grafana.parts import RATE, Board, Query, number, series

JOBS = "payments-.+"

PAYMENTS = Board(
    uid="payments",
    title="Payments",
    description="Payment orders, calls to the bank, undecided operations, the outbox and the reconciliation.",
    tags=("lab", "system"),
    rows=(
        (
            "Promises",
            (
                number(
                    "Undecided operations",
                    "Operations whose outcome at the bank nobody knows yet.",
                    "short",
                    "max(payments_unknown_operations)",
                    limit=1,
                ),
                number(
                    "Oldest undecided",
                    "Age of the oldest of them; each is decided within 30 s of the bank being back.",
                    "s",
                    "max(payments_unknown_oldest_seconds)",
                    limit=30,
                ),
                number("Unpublished events", "Rows in the outbox.", "short", "max(payments_outbox_unpublished)"),
                number(
                    "Oldest unpublished",
                    "Age of the oldest event that Kafka has not acknowledged.",
                    "s",
                    "max(payments_outbox_oldest_seconds)",
                    limit=10,
                ),
                number(
                    "Active relays",
                    "Relays that hold the lock: one publishes, the others stand by.",
                    "short",
                    "sum(payments_relay_active)",
                    limit=1,
                    floor=True,
                ),
                number(
                    "Reconciliation findings",
                    "Open disagreements between payments, ledger and the bank's settlement file.",
                    "short",
                    "sum(payments_reconciliation_findings) or vector(0)",
                    limit=1,
                ),
            ),
        ),
        ("Rate, errors, duration", red("payments-api", errors_below=0.001, p99_below=2.5)),
        (
            "The bank",
            (
                series(
                    "Calls to the bank",
                    "Calls each second by kind and outcome; unknown means that no answer came in time.",
                    "reqps",
                    Query(
                        f"sum by (call, outcome) (rate(payments_bank_call_seconds_count[{RATE}]))",
                        "{{call}} {{outcome}}",
                    ),
                ),
                series(
                    "Duration of calls, 99th percentile",
                    "Time of a call to the bank.",
                    "s",
                    Query(
                        f"histogram_quantile(0.99, sum by (call, le) (rate(payments_bank_call_seconds_bucket[{RATE}])))",
                        "{{call}}",
                    ),
                    exemplars=True,
                ),
                series(
                    "Breaker by shard",
                    "State of the circuit breaker before each shard of the bank: 0 closed, 1 half-open, 2 open.",
                    "short",
                    Query("max by (shard) (payments_bank_breaker_state)", "{{shard}}"),
                    limit=2,
                    most=2,
                ),
                series(
                    "Outcomes that nobody knows",
                    "Calls each second that ended without an answer, and commands refused by an open breaker.",
                    "reqps",
                    Query(f"sum(rate(payments_bank_unknown_total[{RATE}])) or vector(0)", "unknown"),
                    Query(f"sum(rate(payments_bank_refused_total[{RATE}])) or vector(0)", "refused by the breaker"),
                ),
                series(
                    "Time to certainty, 95th percentile",
                    "From the moment an operation became unknown to its final answer.",
                    "s",
                    Query(
                        f"histogram_quantile(0.95, sum by (kind, le) (rate(payments_time_to_certainty_seconds_bucket[{RATE}])))",
                        "{{kind}}",
                    ),
                    limit=30,
                ),
                series(
                    "Undecided operations",
                    "Operations whose outcome is not known, and the age of the oldest.",
                    "short",
                    Query("max(payments_unknown_operations)", "operations"),
                    Query("max(payments_unknown_oldest_seconds)", "age of the oldest (s)"),
                ),
            ),
        ),
        (
            "Work",
            (
                series(
                    "Operations",
                    "Operations each second by kind and latest outcome.",
                    "ops",
                    Query(f"sum by (kind, outcome) (rate(payments_operations_total[{RATE}]))", "{{kind}} {{outcome}}"),
                ),
                series(
                    "Events published",
                    "Events each second that Kafka has acknowledged, by type, and batches it has not.",
                    "ops",
                    Query(f"sum by (type) (rate(payments_events_published_total[{RATE}]))", "{{type}}"),
                    Query(f"sum(rate(payments_publish_failures_total[{RATE}]))", "failed batches"),
                ),
                series(
                    "Shed, replayed, abandoned",
                    "Requests refused because too many were in flight, answered from the stored response, and left by their caller.",
                    "reqps",
                    Query(f"sum(rate(payments_requests_shed_total[{RATE}]))", "shed"),
                    Query(f"sum(rate(payments_idempotent_replays_total[{RATE}]))", "replayed"),
                    Query(f"sum(rate(payments_requests_abandoned_total[{RATE}])) or vector(0)", "abandoned"),
                ),
                series(
                    "Reconciliations on order",
                    "Orders of a schedule each second by what became of them, and those that wait.",
                    "ops",
                    Query(f"sum by (outcome) (rate(payments_scheduled_reconciliations_total[{RATE}]))", "{{outcome}}"),
                    Query("max(payments_scheduled_reconciliations_lag_records)", "waiting (records)"),
                ),
                routes(JOBS),
            ),
        ),
        ("Saturation", saturation(JOBS)),
    ),
)
