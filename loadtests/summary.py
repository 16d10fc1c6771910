"""What a whole run came to, for people."""

from __future__ import annotations

from loadtests.history import Outcome, Record
from loadtests.latency import LAG_LIMIT_MS, Latencies


class Summary:
    """A whole run in three lines. What never ended has no latency; it is counted as unknown."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._latency = Latencies()
        self._lag = Latencies()
        self._counts = dict.fromkeys(Outcome, 0)

    def add(self, record: Record) -> None:
        """An operation has ended, or never will."""
        self._counts[record.outcome] += 1
        if record.sent_at is not None:
            self._lag.record(record.sent_at - record.intended_at)
        if record.done_at is not None:
            self._latency.record(record.done_at - record.intended_at)

    def text(self) -> str:
        """For people."""
        told = ", ".join(f"{outcome} {count}" for outcome, count in self._counts.items())
        marks = ", ".join(f"p{mark:g} {_shown(self._latency.at(mark))}" for mark in (50, 90, 99, 99.9))
        late = self._lag.at(99)
        lines = [
            f"{sum(self._counts.values())} {self._kind}s: {told}",
            f"latency from the intended send time: {marks}, max {_shown(self._latency.longest)}",
            f"the generator sent late by {_shown(late)} (p99)",
        ]
        if late is not None and late > LAG_LIMIT_MS:
            lines[-1] += f", above {LAG_LIMIT_MS:.0f} ms: these figures are the generator's, not the system's"
        return "\n".join(lines) + "\n"


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms"
