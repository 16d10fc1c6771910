"""One clock for a run: monotonic seconds from its start, with the wall time of second 0."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class RunClock:
    """`monotonic` and `wall` were read together at the start of the run."""

    monotonic: float = field(default_factory=time.monotonic)
    wall: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> float:
        """Seconds from the start of the run."""
        return time.monotonic() - self.monotonic

    def from_monotonic(self, seconds: float) -> float:
        """Another process's time.monotonic() on this machine, from the start of the run."""
        return seconds - self.monotonic

    def from_wall(self, moment: datetime) -> float:
        """A store's time, from the start of the run."""
        return (moment - self.wall).total_seconds()

    def wall_of(self, at: float) -> datetime:
        """The wall time of a moment of the run."""
        return self.wall + timedelta(seconds=at)

    def wall_drift(self) -> float:
        """Seconds by which the wall clock has run away from the monotonic one since the start."""
        return self.from_wall(datetime.now(UTC)) - self.now()
