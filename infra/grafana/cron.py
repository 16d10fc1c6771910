"""Cron: who leads, what is due, what is late."""

from __future__ import annotations

from infra.grafana.http_panels import red, routes, saturation
from infra.grafana.parts import RATE, Board, Query, number, series

JOBS = "cron-.+"

CRON = Board(
    uid="cron",
    title="Cron",
    description="The lease, runs by what became of them, lateness, and calls of targets.",
    tags=("lab", "system"),
    rows=(
        (
            "Promises",
            (
                number(
                    "Leaders",
                    "Schedulers that hold the lease: one.",
                    "short",
                    "sum(cron_leader)",
                    limit=1,
                    floor=True,
                ),
                number("Epoch", "The lease's fencing token: it only grows.", "short", "max(cron_epoch)"),
                number("Due and waiting", "Runs that wait for a slot.", "short", "sum(cron_runs_waiting)"),
                number(
                    "Oldest waiting",
                    "How long the oldest of them has been due.",
                    "s",
                    "max(cron_runs_waiting_oldest_seconds)",
                    limit=30,
                ),
            ),
        ),
        (
            "Leadership",
            (
                series(
                    "Who leads",
                    "1 for the scheduler that holds the lease.",
                    "short",
                    Query('max by (process) (cron_leader{job=~"cron-scheduler.*"})', "{{process}}"),
                    most=1,
                ),
                series(
                    "Epoch", "Steps at each change of leader.", "short", Query("max(cron_epoch)", "epoch"), least=None
                ),
                series(
                    "Trouble with the lease",
                    "Renewals without an answer and leaderships that ended, each second.",
                    "ops",
                    Query(f"sum(rate(cron_lease_renew_failures_total[{RATE}]))", "renewals failed"),
                    Query(f"sum by (reason) (rate(cron_terms_ended_total[{RATE}])) or vector(0)", "ended {{reason}}"),
                ),
                series(
                    "Clock offset",
                    "Each node's wall clock minus the database's; nothing is decided by it.",
                    "s",
                    Query('max by (process) (cron_clock_offset_seconds{job=~"cron-scheduler.*"})', "{{process}}"),
                    least=None,
                ),
            ),
        ),
        (
            "Runs",
            (
                series(
                    "Runs by state",
                    "Instants each second by what became of them.",
                    "ops",
                    Query(f"sum by (state) (rate(cron_runs_total[{RATE}]))", "{{state}}"),
                ),
                series(
                    "Lateness",
                    "From the (jittered) instant to the first call of the target.",
                    "s",
                    Query(f"histogram_quantile(0.5, sum by (le) (rate(cron_lateness_seconds_bucket[{RATE}])))", "p50"),
                    Query(f"histogram_quantile(0.99, sum by (le) (rate(cron_lateness_seconds_bucket[{RATE}])))", "p99"),
                    limit=2,
                ),
                series(
                    "Slots",
                    "Runs that are being fired, and runs that wait for a slot.",
                    "short",
                    Query("sum(cron_runs_in_flight)", "in flight"),
                    Query("sum(cron_runs_waiting)", "waiting"),
                ),
                series(
                    "Calls of targets",
                    "Calls each second by kind of target and outcome.",
                    "reqps",
                    Query(
                        f"sum by (target, outcome) (rate(cron_target_call_seconds_count[{RATE}]))",
                        "{{target}} {{outcome}}",
                    ),
                ),
                series(
                    "Duration of calls, 99th percentile",
                    "Time of a call to a target.",
                    "s",
                    Query(
                        f"histogram_quantile(0.99, sum by (target, le) (rate(cron_target_call_seconds_bucket[{RATE}])))",
                        "{{target}}",
                    ),
                ),
            ),
        ),
        ("Rate, errors, duration", (*red("cron-api"), routes("cron-api"))),
        ("Saturation", saturation(JOBS)),
    ),
)
