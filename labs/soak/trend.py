"""How fast a figure grows, told so that outliers, restarts and the warm-up do not decide it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MOST_POINTS = 240
"""Of one life; more are thinned evenly. Their pairs are 28,680."""


@dataclass(frozen=True, slots=True)
class Trend:
    """`per_hour` in units of the figure; `seconds` is the longest stretch of one life that it was fitted to."""

    per_hour: float
    seconds: float
    points: int


def fitted(lives: Sequence[Sequence[tuple[float, float]]]) -> Trend | None:
    """The median slope over all pairs of points (seconds, figure) of the same life; None if no life has two points.

    Theil, A rank-invariant method of linear and polynomial regression analysis (1950); Sen (1968). Up to 29 % of the points
    may be wrong. A process that was killed and started again has a life each; between lives nothing is compared.
    """
    slopes: list[float] = []
    longest, points = 0.0, 0
    for life in lives:
        kept = thinned(life)
        slopes += [
            (later - earlier) / (end - begin)
            for number, (begin, earlier) in enumerate(kept)
            for end, later in kept[number + 1 :]
            if end > begin
        ]
        points += len(life)
        longest = max(longest, life[-1][0] - life[0][0] if life else 0.0)
    return Trend(median(slopes) * 3600, longest, points) if slopes else None


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most so many, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(number * step)] for number in range(most)]
