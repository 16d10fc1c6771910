"""One piece of work for all who want it at the same time."""

from __future__ import annotations

import asyncio

import pytest

from services.patterns.single_flight import SingleFlight


class Work:
    """Counts its beginnings and ends when told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.beginning = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        self.beginning.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.begun


async def until_begun(work: Work) -> None:
    await work.beginning.wait()


async def test_all_who_ask_at_the_same_time_share_one_piece_of_work() -> None:
    flights, work = SingleFlight[int](), Work()
    asking = [asyncio.create_task(flights.run("a", work)) for _ in range(50)]
    await until_begun(work)
    assert flights.flying("a")
    work.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 50
    assert len(flights) == 0


async def test_other_keys_and_later_calls_are_work_of_their_own() -> None:
    flights, work = SingleFlight[int](), Work()
    work.may_end.set()
    assert await flights.run("a", work) == 1
    assert await flights.run("a", work) == 2
    both = await asyncio.gather(flights.run("a", work), flights.run("b", work))
    assert max(both) == work.begun == 4


async def test_what_the_work_raises_everybody_gets() -> None:
    flights, work = SingleFlight[int](), Work()
    work.error = LookupError("gone")
    work.may_end.set()
    results = await asyncio.gather(*(flights.run("a", work) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in results] == [LookupError] * 3
    assert not flights.flying("a")


async def test_whoever_leaves_takes_nothing_from_the_others() -> None:
    flights, work = SingleFlight[int](), Work()
    first = asyncio.create_task(flights.run("a", work))
    second = asyncio.create_task(flights.run("a", work))
    await until_begun(work)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.may_end.set()
    assert await second == 1
    assert work.cancelled == 0


async def test_when_the_last_has_left_the_work_ends_and_the_next_begins_anew() -> None:
    flights, work = SingleFlight[int](), Work()
    only = asyncio.create_task(flights.run("a", work))
    await until_begun(work)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert not flights.flying("a")
    work.may_end.set()
    assert await flights.run("a", work) == 2
    assert work.cancelled == 1


async def test_closing_ends_what_is_under_way() -> None:
    flights, work = SingleFlight[int](), Work()
    only = asyncio.create_task(flights.run("a", work))
    await until_begun(work)
    await flights.close()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert work.cancelled == 1
    assert len(flights) == 0
