"""Confidence intervals of a mean over queries, by resampling the queries (Efron, 1979; percentile method).

Two rankings are compared by their differences query by query: most of what varies between queries is the queries' own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

ROUNDS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its bounds."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(values: Sequence[float], *, seed: int = 1, rounds: int = ROUNDS) -> Interval:
    """Of the mean, with CONFIDENCE. The same seed gives the same bounds. Raises ValueError for no values."""
    if not values:
        raise ValueError("of nothing there is no mean")
    draw = random.Random(seed).random  # noqa: S311  not for secrets
    count = len(values)
    means = sorted(sum(values[int(draw() * count)] for _ in range(count)) / count for _ in range(rounds))
    tail = (1 - CONFIDENCE) / 2
    return Interval(sum(values) / count, means[int(tail * rounds)], means[int((1 - tail) * rounds) - 1])
