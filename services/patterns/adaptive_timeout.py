"""A timeout that follows the latency of what is called: a high quantile with headroom, between a floor and a ceiling.

A call that timed out is known only to have taken *at least* so long (it is right-censored). An estimator that forgets such
calls, or books them at the timeout, learns from the fast ones alone: the timeout falls, more calls are cut, and it falls
again. Here the quantile is Kaplan and Meier's product-limit estimate (JASA 1958), to which censored calls still count; and
where too many were cut for the quantile to be known, the timeout grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_RESCALE = 1e100


class LatencySketch:
    """Latencies in logarithmic buckets (DDSketch, VLDB 2019), recent ones heavier (forward decay, ICDE 2009).

    A quantile is within `accuracy` of a recorded value. An observation loses half of its weight every `half_life_seconds`.
    Memory: a bucket per power of (1 + accuracy) / (1 - accuracy) seen: at 5 %, some 140 from 0.1 ms to 100 s.
    """

    def __init__(self, clock: Callable[[], float], *, half_life_seconds: float = 30.0, accuracy: float = 0.05) -> None:
        if not (0 < accuracy < 1 and half_life_seconds > 0):
            raise ValueError("a sketch needs 0 < accuracy < 1 and a half-life above zero")
        self._clock = clock
        self._rate = math.log(2) / half_life_seconds
        self._gamma = (1 + accuracy) / (1 - accuracy)
        self._log_gamma = math.log(self._gamma)
        self._ended: dict[int, float] = {}
        self._cut: dict[int, float] = {}
        self._landmark = clock()

    def record(self, seconds: float, *, censored: bool = False) -> None:
        """A call took so long; `censored`: it was given up after so long, and would have taken longer."""
        weight = self._weight()
        buckets = self._cut if censored else self._ended
        index = math.ceil(math.log(max(seconds, 1e-6)) / self._log_gamma)
        buckets[index] = buckets.get(index, 0.0) + weight

    @property
    def count(self) -> float:
        """Observations by their present weight: the newest counts 1."""
        newest = self._weight()
        return (sum(self._ended.values()) + sum(self._cut.values())) / newest

    def quantile(self, share: float) -> float | None:
        """Seconds within which `share` (0 to 1) of calls end; None if nothing is recorded or too many were cut to tell."""
        at_risk = sum(self._ended.values()) + sum(self._cut.values())
        surviving = 1.0
        for index in sorted(self._ended.keys() | self._cut.keys()):
            ended = self._ended.get(index, 0.0)
            if ended and at_risk > 0:
                surviving *= max(0.0, 1.0 - ended / at_risk)
                if surviving <= 1.0 - share + 1e-9:
                    return self._value(index)
            at_risk -= ended + self._cut.get(index, 0.0)
        return None

    def longest_cut(self) -> float | None:
        """The longest time that a call was given before it was cut, of those that still weigh at least a hundredth."""
        weight = self._weight() / 100
        return max((self._value(index) for index, cut in self._cut.items() if cut >= weight), default=None)

    def _value(self, index: int) -> float:
        return 2 * self._gamma**index / (self._gamma + 1)

    def _weight(self) -> float:
        weight = math.exp((self._clock() - self._landmark) * self._rate)
        if weight > _RESCALE:
            self._landmark = self._clock()
            for buckets in (self._ended, self._cut):
                for index in list(buckets):
                    buckets[index] /= weight
                    if buckets[index] < 1e-9:
                        del buckets[index]
            weight = 1.0
        return weight


@dataclass(frozen=True, slots=True)
class TimeoutRule:
    """`quantile` of the latency times `headroom`, within `floor` and `ceiling` (seconds).

    `initial` holds until `minimum_calls` are known. While too many calls are cut to know the quantile, the timeout is `growth`
    times the longest that any was given, and `initial` at least: a call may have been cut by a caller with little time.
    """

    floor: float
    ceiling: float
    initial: float
    quantile: float = 0.99
    headroom: float = 1.5
    growth: float = 2.0
    minimum_calls: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.initial <= self.ceiling:
            raise ValueError("a timeout needs 0 < floor <= initial <= ceiling, in seconds")
        if not (0 < self.quantile < 1 and self.headroom >= 1 and self.growth > 1 and self.minimum_calls >= 1):
            raise ValueError("a timeout needs 0 < quantile < 1, headroom >= 1, growth > 1, at least one call")


class AdaptiveTimeout:
    """Not thread-safe; one event loop. `clock` gives monotonic seconds."""

    def __init__(self, rule: TimeoutRule, clock: Callable[[], float], *, half_life_seconds: float = 30.0) -> None:
        self._rule = rule
        self._sketch = LatencySketch(clock, half_life_seconds=half_life_seconds)

    def record(self, seconds: float, *, censored: bool = False) -> None:
        """How a call ended; `censored` if it was cut: timed out, cancelled, or the loser of a hedge."""
        self._sketch.record(seconds, censored=censored)

    def seconds(self) -> float:
        """The timeout for the next call."""
        rule = self._rule
        if self._sketch.count < rule.minimum_calls:
            return rule.initial
        known = self._sketch.quantile(rule.quantile)
        if known is not None:
            wanted = known * rule.headroom
        else:
            wanted = max(rule.initial, (self._sketch.longest_cut() or 0.0) * rule.growth)
        return min(rule.ceiling, max(rule.floor, wanted))

    def quantile(self, share: float) -> float | None:
        """Of the latency itself, for the delay of a hedge."""
        return self._sketch.quantile(share) if self._sketch.count >= self._rule.minimum_calls else None
