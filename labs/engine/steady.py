"""Steady-state predicates over the client's own history. Percentiles come from HdrHistogram."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from labs.engine.model import Operation, Outcome, Probe, Window

LONGEST_US = 600_000_000
SOURCE = "client history, from the intended send time"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float


def latency_of(operations: Iterable[Operation]) -> Latency | None:
    """Percentiles over the operations that ended, from the intended send time; None if none ended."""
    histogram = HdrHistogram(1, LONGEST_US, 3)
    count, longest = 0, 0.0
    for operation in operations:
        if operation.latency is None:
            continue
        count += 1
        longest = max(longest, operation.latency)
        histogram.record_value(min(max(int(operation.latency * 1e6), 1), LONGEST_US))
    if not count:
        return None

    def at_percentile(p: float) -> float:
        return float(round(min(histogram.get_value_at_percentile(p) / 1000, longest * 1000), 3))

    return Latency(at_percentile(50), at_percentile(95), at_percentile(99), round(longest * 1000, 3))


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Share of operations that did not end `ok`."""

    below: float

    def check(self, window: Window) -> Probe:
        """No operation at all is not a steady state."""
        total = len(window.operations)
        bad = sum(operation.outcome is not Outcome.OK for operation in window.operations)
        share = bad / total if total else None
        return Probe("error_rate", share is not None and share < self.below, share, self.below, "share", SOURCE)


@dataclass(frozen=True, slots=True)
class P99:
    """99th percentile of the latency in milliseconds."""

    below_ms: float

    def check(self, window: Window) -> Probe:
        """No operation at all is not a steady state."""
        latency = latency_of(window.operations)
        value = None if latency is None else latency.p99
        return Probe("p99", value is not None and value < self.below_ms, value, self.below_ms, "ms", SOURCE)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Operations per second that ended `ok`."""

    at_least: float

    def check(self, window: Window) -> Probe:
        """Counts by intended time."""
        done = sum(operation.outcome is Outcome.OK for operation in window.operations)
        rate = done / window.seconds if window.seconds else 0.0
        return Probe("throughput", rate >= self.at_least, rate, self.at_least, "1/s", SOURCE)


def error_rate(*, below: float) -> ErrorRate:
    """Share of operations that did not end `ok`, 0 to 1."""
    return ErrorRate(below)


def p99(*, below_ms: float) -> P99:
    """99th percentile in milliseconds from the intended send time."""
    return P99(below_ms)


def throughput(*, at_least: float) -> Throughput:
    """Operations per second that ended `ok`."""
    return Throughput(at_least)
