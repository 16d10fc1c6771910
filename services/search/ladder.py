"""What is left out when there is not enough for everything: the written ladder, top to bottom.

    full → no facets → no personal ranking → what is remembered, however old → what is popular

| rung | when | what the answer lacks |
|---|---|---|
| FULL | less than three quarters of the engine's slots are in use | nothing |
| NO_FACETS | three quarters in use, or less than `FACET_SECONDS` left | facets: a second search |
| NO_PERSONALISATION | all in use | personal ranking too, so that answers can be shared |
| CACHED | twice as much asked for as there are slots, the engine silent, or less than `ENGINE_SECONDS` left | freshness: an old answer is taken if there is one |
| POPULAR | and no old answer, and the engine did not answer either | the search: popular products instead, of the filters that were asked for |

The lowest rung has nothing to give for a second page or an explanation; then it is 503 with Retry-After.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

FACETS_UNTIL = 0.75
PERSONAL_UNTIL = 1.0
ENGINE_UNTIL = 2.0
"""Loads, see patterns.concurrency_limit."""
FACET_SECONDS = 0.15
ENGINE_SECONDS = 0.03
"""What should be left of the caller's time for it to be worth beginning."""


class Rung(IntEnum):
    """Lower ones leave out what those above do, and more."""

    FULL = 0
    NO_FACETS = 1
    NO_PERSONALISATION = 2
    CACHED = 3
    POPULAR = 4


class Missing(StrEnum):
    """What `degraded` in an answer names. PARTIAL: the engine ran out of time, or a shard did not answer."""

    FACETS = "facets"
    PERSONALISATION = "personalisation"
    CACHED = "cached"
    POPULAR = "popular"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Pressure:
    """`load` of the engine's slots; `left` of the caller's time, in seconds; whether the breaker lets calls through."""

    load: float
    left: float
    engine_answers: bool = True


def rung(pressure: Pressure) -> Rung:
    """Where a request begins; it may end lower. POPULAR is where it ends, never where it begins."""
    if not pressure.engine_answers or pressure.load >= ENGINE_UNTIL or pressure.left < ENGINE_SECONDS:
        return Rung.CACHED
    if pressure.load >= PERSONAL_UNTIL:
        return Rung.NO_PERSONALISATION
    if pressure.load >= FACETS_UNTIL or pressure.left < FACET_SECONDS:
        return Rung.NO_FACETS
    return Rung.FULL
