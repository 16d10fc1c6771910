"""What the client itself saw, as JSON lines: one per operation, and one per second of live figures.

All times are seconds on the machine's monotonic clock, which every process of the machine shares.
"""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import msgspec


class Outcome(StrEnum):
    """Acknowledged, told that it failed, or neither."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Shown(msgspec.Struct, frozen=True):
    """What the client was shown last."""

    payment: str
    state: str


class ShownJob(msgspec.Struct, frozen=True):
    """A scheduled job as the client ordered it, and what the 201 added: its id, and `anchor` from its first instant.

    The nth instant is `anchor` + n `every_seconds`.
    """

    job: str
    anchor: str
    every_seconds: str
    misfire: str
    target: str


class ShownEvent(msgspec.Struct, frozen=True):
    """An event that was taken: under which id, of which type, and by which way (`api` or `kafka`)."""

    message: str
    event_type: str
    way: str


class ShownWrite(msgspec.Struct, frozen=True):
    """A write of the catalogue, or of a document, that was acknowledged: of which product, at which version."""

    product: str
    version: str


class ShownSearch(msgspec.Struct, frozen=True):
    """What a query's answer said of itself: its hits, what it went without (separated by spaces), and if it was cached.

    The three are empty without an answer; what was asked is known all the same.
    """

    hits: str
    degraded: str
    cache: str
    hot: str = ""
    text: str = ""
    """What was asked."""


AnyShown = Shown | ShownJob | ShownEvent | ShownWrite | ShownSearch


class Record(msgspec.Struct, frozen=True):
    """One operation. `sent_at` is None if it was never sent, `done_at` if it was still in flight at the end."""

    id: str
    key: str
    kind: str
    intended_at: float
    sent_at: float | None
    done_at: float | None
    attempts: int
    status: int | None
    outcome: Outcome
    error: str | None
    result: AnyShown | None


class Live(msgspec.Struct, frozen=True):
    """The last second. `lag` is sent - intended: how late the generator itself was; `cores` what it used of one core."""

    at: float
    sent: int
    done: int
    ok: int
    fail: int
    unknown: int
    in_flight: int
    p50_ms: float | None
    p99_ms: float | None
    lag_p99_ms: float | None
    cores: float | None = None


def percentile(values: list[float], share: float) -> float | None:
    """Nearest rank of sorted values; None of nothing."""
    if not values:
        return None
    return values[min(len(values) - 1, int(share * len(values)))]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class History:
    """Appends to both files; `tick` once a second, so that a generator killed hard loses at most that second."""

    def __init__(self, history: Path | None, live: Path | None) -> None:
        self._history = _opened(history)
        self._live = _opened(live)
        self._lags: list[float] = []
        self._latencies: list[float] = []
        self._counts = dict.fromkeys(Outcome, 0)
        self._ticked_at, self._cpu_seconds = time.monotonic(), time.process_time()

    def sent(self, intended_at: float, sent_at: float) -> None:
        """An operation has left."""
        self._lags.append(sent_at - intended_at)

    def write(self, record: Record) -> None:
        """An operation has ended, or never will."""
        self._counts[record.outcome] += 1
        if record.done_at is not None:
            self._latencies.append(record.done_at - record.intended_at)
        if self._history is not None:
            self._history.write(msgspec.json.encode(record) + b"\n")

    def tick(self, in_flight: int) -> Live:
        """Write the live line of the time since the last tick, and flush both files."""
        self._lags.sort()
        self._latencies.sort()
        line = Live(
            at=time.monotonic(),
            sent=len(self._lags),
            done=sum(self._counts.values()),
            ok=self._counts[Outcome.OK],
            fail=self._counts[Outcome.FAIL],
            unknown=self._counts[Outcome.UNKNOWN],
            in_flight=in_flight,
            p50_ms=_milliseconds(percentile(self._latencies, 0.50)),
            p99_ms=_milliseconds(percentile(self._latencies, 0.99)),
            lag_p99_ms=_milliseconds(percentile(self._lags, 0.99)),
            cores=self._cores(),
        )
        self._lags, self._latencies, self._counts = [], [], dict.fromkeys(Outcome, 0)
        if self._live is not None:
            self._live.write(msgspec.json.encode(line) + b"\n")
            self._live.flush()
        if self._history is not None:
            self._history.flush()
        return line

    def _cores(self) -> float | None:
        """Share of one core that this process used since the last tick."""
        before, used_before = self._ticked_at, self._cpu_seconds
        self._ticked_at, self._cpu_seconds = time.monotonic(), time.process_time()
        elapsed = self._ticked_at - before
        return round((self._cpu_seconds - used_before) / elapsed, 3) if elapsed > 0 else None

    def close(self) -> None:
        """Idempotent."""
        for file in (self._history, self._live):
            if file is not None:
                file.close()
        self._history = self._live = None


def _opened(path: Path | None) -> BinaryIO | None:
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")
