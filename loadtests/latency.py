"""Latencies of a run in an HdrHistogram (Gil Tene): three significant digits, so that p99.9 of a long run is exact enough."""

from __future__ import annotations

from hdrh.histogram import HdrHistogram

LONGEST_US = 600_000_000
LAG_LIMIT_MS = 50.0
"""A generator that sends later than this (p99) has measured itself."""
CORE_LIMIT = 0.8
"""So has one that uses more of a core: it is a single thread, and at its end it is late as well."""


class Latencies:
    """Seconds go in, milliseconds come out; what is longer than ten minutes counts as ten minutes."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LONGEST_US, 3)
        self._longest = 0.0
        self.count = 0

    def record(self, seconds: float) -> None:
        """One operation, or one lag; below a microsecond counts as one."""
        self.count += 1
        self._longest = max(self._longest, seconds)
        self._histogram.record_value(min(max(int(seconds * 1e6), 1), LONGEST_US))

    def at(self, percentile: float) -> float | None:
        """Milliseconds, `percentile` from 0 to 100; None if nothing was recorded."""
        if not self.count:
            return None
        bucket_ms = self._histogram.get_value_at_percentile(percentile) / 1000
        return float(round(min(bucket_ms, max(self._longest * 1000, 0.001)), 3))

    @property
    def longest(self) -> float | None:
        """Milliseconds; None if nothing was recorded."""
        return round(self._longest * 1000, 3) if self.count else None
