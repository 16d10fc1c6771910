"""Probabilistic early expiration: a hot entry is made anew before it ends, by one caller or few, while the rest still read it.

Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention" (VLDB 2015), algorithm XFetch. Needs
no lock and no talk between processes, so that a hundred of them that share a store do not all ask it in the same moment.
"""

from __future__ import annotations

from math import log


def due(now: float, expires_at: float, cost: float, draw: float, *, beta: float = 1.0) -> bool:
    """Whether this reader makes the entry anew. Times and `cost` (how long making it takes) in seconds.

    `draw` is a uniform random number in (0, 1]; a larger `beta` is more eager. Always true from `expires_at` on.
    """
    return now - cost * beta * log(max(draw, 1e-300)) >= expires_at


def jittered(seconds: float, share: float, draw: float) -> float:
    """A time to live of `seconds` ± `share`, so that what was cached together does not end together; `draw` in [0, 1)."""
    return seconds * (1 + share * (2 * draw - 1))
