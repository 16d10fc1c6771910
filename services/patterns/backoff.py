"""How long to wait before the next try."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: a delay drawn evenly from zero to min(cap, base * 2^attempt), in seconds.

    Full jitter spreads the tries of many clients best (Marc Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """

    base: float
    cap: float

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap:
            raise ValueError("a backoff needs 0 < base <= cap, in seconds")

    def ceiling(self, attempt: int) -> float:
        """The longest delay after try number `attempt` (0 is the first)."""
        if attempt < 0:
            raise ValueError("attempts are counted from 0")
        # 2.0**1024 overflows; long before that the cap holds.
        return min(self.cap, self.base * 2.0 ** min(attempt, 64))

    def delay(self, attempt: int, chance: random.Random) -> float:
        """Seconds to wait after try number `attempt`."""
        return chance.uniform(0, self.ceiling(attempt))
