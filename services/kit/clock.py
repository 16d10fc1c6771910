"""Time is an argument: services take a Clock, so that tests and labs can set it.

In the lab profile the wall time of a running process can be put wrong over HTTP (`PUT /lab/clock`), as a node without NTP
has it; its monotonic time stays right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

LARGEST_OFFSET_SECONDS = 31 * 86_400.0


class Clock(Protocol):
    """Wall time for what people read and store; monotonic seconds for durations and timeouts."""

    def now(self) -> datetime:
        """Timezone-aware UTC."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""


@dataclass(slots=True)
class Skew:
    """How wrong the wall time of this process is, and how often the process has read it since it was set."""

    offset_seconds: float = 0.0
    reads: int = 0


_skew = Skew()


def skew() -> Skew:
    """As it is now."""
    return _skew


def set_skew(offset_seconds: float) -> None:
    """Put every SystemClock of this process wrong by so much; 0 puts it right. Raises ValueError beyond 31 days."""
    if not -LARGEST_OFFSET_SECONDS <= offset_seconds <= LARGEST_OFFSET_SECONDS:
        raise ValueError(f"offset_seconds is at most {LARGEST_OFFSET_SECONDS:.0f} either way")
    _skew.offset_seconds, _skew.reads = offset_seconds, 0


def wall_time() -> datetime:
    """What the wall clock of this process shows; looking at it so is not counted."""
    return datetime.now(UTC) + timedelta(seconds=_skew.offset_seconds)


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        _skew.reads += 1
        return wall_time()

    def monotonic(self) -> float:
        return time.monotonic()
