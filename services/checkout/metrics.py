"""All metrics of the checkout process beyond those of the HTTP shell and the HTTP client."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

CHECKOUTS = Counter("checkout_checkouts_total", "Checkouts by what the till was told", ["outcome"])
SHED = Counter("checkout_requests_shed_total", "Requests refused because too many were in flight")
HEDGES = Counter("checkout_hedges_total", "Second requests sent for reads that took long")
BREAKER_STATE = Gauge("checkout_breaker_state", "Breaker before payments: 0 closed, 1 half-open, 2 open")
RETRY_TOKENS = Gauge("checkout_retry_tokens", "Retries that the budget would allow now")
READ_TIMEOUT = Gauge("checkout_read_timeout_seconds", "Adaptive timeout of one read of payments")
ABANDONED = Counter(
    "checkout_requests_abandoned_total", "Requests whose deadline was over or whose caller left first", ["reason"]
)
WASTED = Counter(
    "checkout_wasted_work_seconds_total", "Time of those requests, from their head to the end of their work", ["reason"]
)
