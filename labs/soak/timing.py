"""How a soak's minutes are spent."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST_MINUTES, MOST_MINUTES = 2, 480
WARM_UP_SECONDS = 6.0
BASELINE_SECONDS = 12.0
HOLD_SECONDS = 20.0
"""Load after the last heal: recovery is judged from 10 s after it on, in windows of 3 s."""
REST_SECONDS = 10.0
"""Without load, once all is settled."""


@dataclass(frozen=True, slots=True)
class SoakTiming:
    """Seconds; the load lasts for `minutes` in all, from the baseline to the end of the hold."""

    minutes: float
    warm_up: float = WARM_UP_SECONDS
    baseline: float = BASELINE_SECONDS
    hold: float = HOLD_SECONDS
    rest: float = REST_SECONDS
    every: float | None = None

    @property
    def inject(self) -> float:
        """For faults."""
        return self.minutes * 60 - self.baseline - self.hold

    @property
    def load(self) -> float:
        """In all."""
        return self.warm_up + self.minutes * 60

    @property
    def sample_every(self) -> float:
        """A look at all processes costs a fifth of a second of CPU. `every` overrides it, for tests."""
        if self.every is not None:
            return self.every
        return 5.0 if self.minutes < 10 else 15.0
