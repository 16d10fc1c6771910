"""Checkout: what the tills are told, and how it spares payments."""

from __future__ import annotations

from infra.grafana.http_panels import red, routes, saturation
from infra.grafana.parts import RATE, Board, Query, number, series

JOBS = "checkout-.+"

CHECKOUT = Board(
    uid="checkout",
    title="Checkout",
    description="Checkouts by outcome, attempts at payments, retries, hedges and the breaker.",
    tags=("lab", "system"),
    rows=(
        (
            "Promises",
            (
                number(
                    "Breaker before payments",
                    "0 closed, 1 half-open, 2 open: then checkouts are refused at once.",
                    "short",
                    "max(checkout_breaker_state)",
                    limit=2,
                ),
                number(
                    "Retries left", "Retries that the budget would allow now.", "short", "min(checkout_retry_tokens)"
                ),
                number(
                    "Read timeout",
                    "Adaptive timeout of one read of payments: it follows the 99th percentile.",
                    "s",
                    "max(checkout_read_timeout_seconds)",
                ),
            ),
        ),
        ("Rate, errors, duration", red(JOBS, errors_below=0.005, p99_below=2.5)),
        (
            "Work",
            (
                series(
                    "Checkouts by outcome",
                    "Checkouts each second by what the till was told.",
                    "reqps",
                    Query(f"sum by (outcome) (rate(checkout_checkouts_total[{RATE}]))", "{{outcome}}"),
                ),
                series(
                    "Attempts at payments",
                    "Single attempts each second by call and outcome, retries and hedges included.",
                    "reqps",
                    Query(
                        f'sum by (call, outcome) (rate(http_client_request_duration_seconds_count{{job=~"{JOBS}"}}[{RATE}]))',
                        "{{call}} {{outcome}}",
                    ),
                ),
                series(
                    "Duration of attempts, 99th percentile",
                    "Time of one attempt at payments.",
                    "s",
                    Query(
                        f'histogram_quantile(0.99, sum by (call, le) (rate(http_client_request_duration_seconds_bucket{{job=~"{JOBS}"}}[{RATE}])))',
                        "{{call}}",
                    ),
                    exemplars=True,
                ),
                series(
                    "Extra load on payments",
                    "Retries, hedges and shed requests each second; retries are at most 10 % of first attempts.",
                    "reqps",
                    Query(f'sum(rate(http_client_retries_total{{job=~"{JOBS}"}}[{RATE}])) or vector(0)', "retries"),
                    Query(f"sum(rate(checkout_hedges_total[{RATE}]))", "hedges"),
                    Query(f"sum(rate(checkout_requests_shed_total[{RATE}]))", "shed"),
                ),
                series(
                    "Wasted work",
                    "Share of a core's time spent on requests whose deadline was over or whose caller had left.",
                    "percentunit",
                    Query(f"sum(rate(checkout_wasted_work_seconds_total[{RATE}])) or vector(0)", "wasted"),
                ),
                routes(JOBS),
            ),
        ),
        ("Saturation", saturation(JOBS)),
    ),
)
