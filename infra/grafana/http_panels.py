"""Rate, errors, duration and saturation of a group of processes: the first rows of every system's dashboard."""

from __future__ import annotations

from infra.grafana.parts import RATE, Panel, Query, series

EVERY = ".+"
"""All processes."""
_COUNT = "http_server_request_duration_seconds_count"
_BUCKET = "http_server_request_duration_seconds_bucket"


def red(jobs: str, *, errors_below: float | None = None, p99_below: float | None = None) -> tuple[Panel, ...]:
    """`jobs` is a regular expression of process names; limits are of the stated objective."""
    rate = f'sum by (job) (rate({_COUNT}{{job=~"{jobs}"}}[{RATE}]))'
    failed = f'sum by (job) (rate(http_server_failures_total{{job=~"{jobs}"}}[{RATE}]))'
    spread = f'sum by (job, le) (rate({_BUCKET}{{job=~"{jobs}"}}[{RATE}]))'
    return (
        series("Requests", "Requests answered each second, by process.", "reqps", Query(rate, "{{job}}")),
        series(
            "Errors",
            "Share of requests answered with 5xx; 0 while there are none.",
            "percentunit",
            Query(f"clamp_max({failed} / clamp_min(({rate}) or {failed} * 0, 1e-9), 1)", "{{job}}"),
            limit=errors_below,
        ),
        series(
            "Duration, 99th percentile",
            "From a request's head to the end of its answer; a point leads to the trace of one such request.",
            "s",
            Query(f"histogram_quantile(0.99, {spread})", "{{job}}"),
            limit=p99_below,
            exemplars=True,
        ),
    )


def routes(jobs: str) -> Panel:
    """What is asked for, and how it is answered."""
    by = f'sum by (method, route, status) (rate({_COUNT}{{job=~"{jobs}"}}[{RATE}]))'
    return series(
        "Answers by route",
        "Requests answered each second, by method, route and status.",
        "reqps",
        Query(by, "{{method}} {{route}} {{status}}"),
        width=12,
    )


def saturation(jobs: str) -> tuple[Panel, ...]:
    """How full the processes are."""
    return (
        series(
            "Processor",
            "Cores in use by each process.",
            "short",
            Query(f'sum by (process) (rate(process_cpu_seconds_total{{job=~"{jobs}"}}[{RATE}]))', "{{process}}"),
        ),
        series(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            Query(f'sum by (process) (process_resident_memory_bytes{{job=~"{jobs}"}})', "{{process}}"),
        ),
        series(
            "Requests in flight",
            "Requests that are being answered now.",
            "short",
            Query(f'sum by (process) (http_server_active_requests{{job=~"{jobs}"}})', "{{process}}"),
        ),
    )
