"""Token bucket: a rate with a bounded burst (Turner, "New directions in communications", IEEE 1986)."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Holds up to `burst` tokens and gains `rate` of them a second; begins full. `clock` gives monotonic seconds.

    Not thread-safe; one event loop. Over any `t` seconds at most `burst + rate * t` tokens are given out.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError("a token bucket needs a rate above zero and room for one token at least")
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    @property
    def available(self) -> int:
        """Whole tokens to be had now."""
        self._refill()
        return int(self._tokens)

    def take(self, wanted: int = 1) -> int:
        """Take up to `wanted` tokens; return how many there were."""
        taken = min(max(wanted, 0), self.available)
        self._tokens -= taken
        return taken

    def give_back(self, tokens: int) -> None:
        """Tokens that were taken and not used."""
        self._refill()
        self._tokens = min(self._burst, self._tokens + max(tokens, 0))

    def _refill(self) -> None:
        now = self._clock()
        # A clock that stands still or goes back gives nothing, and takes nothing away.
        self._tokens = min(self._burst, self._tokens + max(now - self._at, 0.0) * self._rate)
        self._at = max(now, self._at)
