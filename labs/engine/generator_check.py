"""Is it the system that was measured, or the load generator?"""

from __future__ import annotations

from hdrh.histogram import HdrHistogram

from labs.engine.model import Window
from loadtests.latency import CORE_LIMIT, LAG_LIMIT_MS


def lag_p99_ms(window: Window) -> float | None:
    """How late operations were sent against their schedule; None if none was sent."""
    histogram = HdrHistogram(1, 600_000_000, 3)
    count = 0
    for operation in window.operations:
        if operation.sent_at is not None:
            count += 1
            histogram.record_value(max(1, int((operation.sent_at - operation.intended_at) * 1e6)))
    return histogram.get_value_at_percentile(99) / 1000 if count else None


def generator_problem(window: Window, cores: float) -> str:
    """A sentence if the generator was the bottleneck in this window, else "". `cores` is the share of one core it used."""
    lag = lag_p99_ms(window)
    if lag is not None and lag > LAG_LIMIT_MS:
        return f"the run measured the generator: it sent its operations late (p99 {lag:.0f} ms, limit {LAG_LIMIT_MS:.0f} ms)"
    if cores > CORE_LIMIT:
        return f"the run measured the generator: it used {cores:.0%} of a core (limit {CORE_LIMIT:.0%})"
    return ""
