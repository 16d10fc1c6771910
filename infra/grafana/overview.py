"""Everything at a glance: is anybody not served, what is full, what waits."""

from __future__ import annotations

from infra.grafana.http_panels import EVERY, red, saturation
from infra.grafana.parts import Board, Query, number, rows, series

OVERVIEW = Board(
    uid="overview",
    title="Overview",
    description="Every service by rate, errors and duration; what is full; what waits.",
    tags=("lab", "overview"),
    rows=(
        (
            "At a glance",
            (
                number("Processes up", "Processes whose metrics Prometheus can read.", "short", "sum(up)"),
                number(
                    "Processes down",
                    "Processes that should answer Prometheus and do not.",
                    "short",
                    "count(up == 0) or vector(0)",
                    limit=1,
                ),
                number(
                    "Alerts firing",
                    "Alerts that fire now; the runbook of each says what to do.",
                    "short",
                    'count(ALERTS{alertstate="firing"}) or vector(0)',
                    limit=1,
                ),
                number(
                    "Unknown payments",
                    "Operations whose outcome at the bank nobody knows yet.",
                    "short",
                    "max(payments_unknown_operations)",
                    limit=1,
                ),
                number(
                    "Cron leaders",
                    "Schedulers that hold the lease: one, or nobody fires jobs.",
                    "short",
                    "sum(cron_leader)",
                    limit=1,
                    floor=True,
                ),
                number(
                    "Webhook backlog",
                    "Deliveries that are scheduled and not made.",
                    "short",
                    "max(webhooks_backlog_deliveries)",
                ),
            ),
        ),
        ("Services: rate, errors, duration", red(EVERY)),
        (
            "Objectives",
            (
                series(
                    "Error budget burn, 5 minutes",
                    "How many times faster than allowed each objective's error budget is being used; 1 uses it up exactly at the end of its 30 days.",
                    "short",
                    Query("slo:burn_rate:rate5m", "{{service}} {{slo}}"),
                    limit=14.4,
                    width=12,
                ),
                rows(
                    "Objectives, last hour",
                    "Share of bad events in the last hour, by stated objective.",
                    "percentunit",
                    Query("slo:error_ratio:rate1h", "{{service}} {{slo}}"),
                ),
            ),
        ),
        ("Saturation", saturation(EVERY)),
        (
            "Lag: what waits",
            (
                series(
                    "Oldest unpublished event",
                    "Age of the oldest event in the payments outbox that Kafka has not acknowledged.",
                    "s",
                    Query("max(payments_outbox_oldest_seconds)", "payments outbox"),
                    limit=10,
                ),
                series(
                    "Consumer lag",
                    "Records on the topic that the consumer group has not committed.",
                    "short",
                    Query("sum by (consumergroup, topic) (kafka_consumergroup_lag)", "{{consumergroup}} {{topic}}"),
                ),
                series(
                    "Queues",
                    "What is accepted and waits: webhook deliveries, cron runs, charges at the bank.",
                    "short",
                    Query("max(webhooks_backlog_deliveries)", "webhook deliveries"),
                    Query("sum(cron_runs_waiting)", "cron runs"),
                    Query("sum(sim_bank_queued_charges)", "charges at the bank"),
                ),
            ),
        ),
    ),
)
