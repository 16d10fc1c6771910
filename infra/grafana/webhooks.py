"""Webhooks: what is taken in, attempted, given up, and what waits."""

from __future__ import annotations

from infra.grafana.http_panels import red, routes, saturation
from infra.grafana.parts import RATE, Board, Query, number, series

JOBS = "webhooks-.+"

WEBHOOKS = Board(
    uid="webhooks",
    title="Webhooks",
    description="Messages in, attempts out, dead letters, lag of the Kafka source, slots of the dispatcher.",
    tags=("lab", "system"),
    rows=(
        (
            "Promises",
            (
                number(
                    "Backlog",
                    "Deliveries that are scheduled and not made.",
                    "short",
                    "max(webhooks_backlog_deliveries)",
                ),
                number(
                    "Source lag",
                    "Payment events on the topic that are not taken in yet.",
                    "short",
                    "max(webhooks_source_lag_records)",
                    limit=1000,
                ),
                number("In flight", "Attempts under way.", "short", "sum(webhooks_attempts_in_flight)"),
                number(
                    "Given up",
                    "Deliveries in the dead letters since the dispatchers started.",
                    "short",
                    "sum(webhooks_dead_total)",
                ),
                number("Replays running", "Replays that are not finished.", "short", "sum(webhooks_replays_running)"),
                number(
                    "Operational events waiting",
                    "Operational events that Kafka has not acknowledged.",
                    "short",
                    "max(webhooks_outbox_unpublished)",
                ),
            ),
        ),
        ("Rate, errors, duration", red(JOBS, errors_below=0.001)),
        (
            "In",
            (
                series(
                    "Messages",
                    "Messages each second by origin and result; known ones were sent before.",
                    "ops",
                    Query(f"sum by (origin, result) (rate(webhooks_messages_total[{RATE}]))", "{{origin}} {{result}}"),
                ),
                series(
                    "Kafka records",
                    "Records each second by what became of them.",
                    "ops",
                    Query(f"sum by (result) (rate(webhooks_source_records_total[{RATE}]))", "{{result}}"),
                ),
                series(
                    "Messages in a commit",
                    "Messages that share a commit, on average: more under load.",
                    "short",
                    Query(
                        f"sum(rate(webhooks_accept_batch_messages_sum[{RATE}])) / clamp_min(sum(rate(webhooks_accept_batch_messages_count[{RATE}])), 1e-9)",
                        "accepted",
                    ),
                    Query(
                        f"sum(rate(webhooks_outcome_batch_attempts_sum[{RATE}])) / clamp_min(sum(rate(webhooks_outcome_batch_attempts_count[{RATE}])), 1e-9)",
                        "outcomes",
                    ),
                ),
            ),
        ),
        (
            "Out",
            (
                series(
                    "Attempts by outcome",
                    "Attempts each second by outcome.",
                    "reqps",
                    Query(f"sum by (outcome) (rate(webhooks_attempts_total[{RATE}]))", "{{outcome}}"),
                ),
                series(
                    "First attempt delay, 99th percentile",
                    "From the message's commit to the beginning of its first attempt.",
                    "s",
                    Query(
                        f"histogram_quantile(0.99, sum by (le) (rate(webhooks_first_attempt_delay_seconds_bucket[{RATE}])))",
                        "p99",
                    ),
                    limit=5,
                ),
                series(
                    "Duration of attempts, 99th percentile",
                    "From the call to the receiver's status line, by outcome.",
                    "s",
                    Query(
                        f"histogram_quantile(0.99, sum by (outcome, le) (rate(webhooks_attempt_seconds_bucket[{RATE}])))",
                        "{{outcome}}",
                    ),
                    exemplars=True,
                ),
                series(
                    "Slots",
                    "Attempts in flight, and those of them to endpoints that time out or are not known yet.",
                    "short",
                    Query("sum(webhooks_attempts_in_flight)", "all"),
                    Query("sum(webhooks_slow_attempts_in_flight)", "slow pool"),
                ),
                series(
                    "Given up",
                    "Deliveries each second that went to the dead letters, by reason.",
                    "ops",
                    Query(f"sum by (reason) (rate(webhooks_dead_total[{RATE}]))", "{{reason}}"),
                ),
                series(
                    "Work done twice",
                    "Claims taken back from dispatchers that did not finish, and outcomes that came too late.",
                    "ops",
                    Query(f"sum(rate(webhooks_claims_taken_back_total[{RATE}]))", "taken back"),
                    Query(f"sum(rate(webhooks_stale_outcomes_total[{RATE}]))", "stale outcomes"),
                ),
                routes(JOBS),
            ),
        ),
        ("Saturation", saturation(JOBS)),
    ),
)
