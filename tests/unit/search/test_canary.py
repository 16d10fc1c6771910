"""What the canary's sightings say."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import pytest

from services.search import metrics
from services.search.canary import MOST_PENDING, Canary, Sightings
from services.search.documents import CANARY
from services.search.engine import EngineDown, Found, Hit, Hits, NotThere
from services.search.store.canary import CanaryStore


class Stepping:
    """A clock that is put where a test wants it."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> Any:
        raise NotImplementedError

    def monotonic(self) -> float:
        return self.at


class Shows:
    """An engine whose searches show this stock, or fail so."""

    def __init__(self, what: int | Exception | None) -> None:
        self.what = what
        self.asked: list[Any] = []

    async def search(self, index: str, body: Any, *, within: float | None = None) -> Found:
        self.asked.append(body)
        if isinstance(self.what, Exception):
            raise self.what
        hits = [] if self.what is None else [Hit(str(CANARY), source={"stock": self.what})]
        return Found(1, timed_out=False, hits=Hits(hits))


def canary(engine: Shows) -> tuple[Canary, Stepping]:
    clock = Stepping()
    return Canary(cast("CanaryStore", None), engine, "products", 1, 1, clock), clock


def counted() -> float:
    return next(
        sample.value
        for metric in metrics.FRESHNESS.collect()
        for sample in metric.samples
        if sample.name.endswith("_count")
    )


def test_a_sighting_shows_all_changes_up_to_it() -> None:
    sightings = Sightings()
    for number, at in ((1, 10.0), (2, 11.0), (3, 12.0)):
        sightings.committed(number, at)
    assert sightings.oldest(12.5) == 2.5
    assert sightings.seen(2, 12.5) == [2.5, 1.5]
    assert sightings.seen(2, 13.0) == []
    assert sightings.oldest(13.0) == 1.0
    assert sightings.seen(9, 14.0) == [2.0]
    assert sightings.oldest(20.0) == 0.0


def test_when_nothing_is_seen_for_long_memory_stays_bounded_and_the_oldest_is_kept() -> None:
    sightings = Sightings()
    for number in range(MOST_PENDING * 2):
        sightings.committed(number, float(number))
    assert len(sightings.pending) == MOST_PENDING
    assert sightings.oldest(10_000.0) == 10_000.0


async def test_a_search_that_shows_the_change_is_measured() -> None:
    engine = Shows(4)
    made, clock = canary(engine)
    made.sightings.committed(4, 0.0)
    before, clock.at = counted(), 1.5
    await made.look_once()
    assert counted() == before + 1
    assert not made.sightings.pending


@pytest.mark.parametrize("what", [3, None, NotThere("no such index"), EngineDown("no answer")])
async def test_what_no_search_shows_grows_old_in_the_gauge(what: int | Exception | None) -> None:
    made, clock = canary(Shows(what))
    made.sightings.committed(4, 0.0)
    before, clock.at = counted(), 7.0
    await made.look_once()
    assert (counted(), made.sightings.oldest(clock.at)) == (before, 7.0)
    (gauge,) = metrics.OLDEST_UNSEEN.collect()
    assert gauge.samples[0].value == 7.0


async def test_what_is_late_by_much_is_looked_for_more_seldom() -> None:
    made, clock = canary(Shows(None))
    made.sightings.committed(4, 0.0)
    pauses = []
    for clock.at in (0.0, 0.5, 40.0):
        pauses.append(made.pause())
    assert pauses == [made.poll, max(made.poll, 0.025), 2.0]


async def test_with_nothing_to_look_for_nobody_is_asked() -> None:
    engine = Shows(1)
    made, _ = canary(engine)
    await made.look_once()
    assert engine.asked == []


def test_the_canary_comes_before_every_real_product() -> None:
    assert UUID("019b76da-a800-7d3f-af3c-2023f62efccc") > CANARY
