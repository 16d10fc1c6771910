"""A bound on work at once."""

from __future__ import annotations

import asyncio

import pytest

from services.patterns.concurrency_limit import ConcurrencyLimit, Overloaded

LONG = 60.0


class Worker:
    """Holds a slot until told to go."""

    def __init__(self, limit: ConcurrencyLimit, name: int, order: list[int], patience: float = LONG) -> None:
        self.go = asyncio.Event()
        self.inside = False
        self.task = asyncio.create_task(self._work(limit, name, order, patience))

    async def _work(self, limit: ConcurrencyLimit, name: int, order: list[int], patience: float) -> None:
        async with limit.slot(patience):
            self.inside = True
            order.append(name)
            await self.go.wait()
        self.inside = False


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def end(workers: list[Worker]) -> None:
    for each in workers:
        each.go.set()
    await asyncio.gather(*(each.task for each in workers), return_exceptions=True)


async def test_never_more_than_the_slots_work_at_once_and_all_get_their_turn() -> None:
    limit, order = ConcurrencyLimit(3, 100), list[int]()
    workers = [Worker(limit, number, order) for number in range(20)]
    await turns()
    assert sum(each.inside for each in workers) == 3 == limit.busy
    assert limit.waiting == 17
    assert limit.load == pytest.approx(20 / 3)
    while running := [each for each in workers if each.inside]:
        assert len(running) <= 3
        running[0].go.set()
        await turns()
    await end(workers)
    assert sorted(order) == list(range(20))
    assert (limit.busy, limit.waiting) == (0, 0)


async def test_the_newest_goes_first() -> None:
    limit, order = ConcurrencyLimit(1, 10), list[int]()
    workers = [Worker(limit, number, order) for number in range(4)]
    await turns()
    for place in (0, 3, 2, 1):
        workers[place].go.set()
        await turns()
    await end(workers)
    assert order == [0, 3, 2, 1]


async def test_a_newcomer_to_a_full_queue_takes_the_place_of_its_oldest() -> None:
    limit, order = ConcurrencyLimit(1, 2), list[int]()
    workers = [Worker(limit, number, order) for number in range(4)]
    await turns()
    with pytest.raises(Overloaded):
        await workers[1].task
    assert limit.waiting == 2
    await end(workers)
    assert order == [0, 3, 2]


async def test_without_a_queue_a_full_limit_refuses_at_once() -> None:
    limit, order = ConcurrencyLimit(1, 0), list[int]()
    worker = Worker(limit, 0, order)
    await turns()
    with pytest.raises(Overloaded):
        async with limit.slot(LONG):
            raise AssertionError("there is no slot")
    await end([worker])
    async with limit.slot(0.0):
        assert limit.busy == 1


async def test_whoever_runs_out_of_patience_leaves_no_trace() -> None:
    limit, order = ConcurrencyLimit(1, 5), list[int]()
    worker = Worker(limit, 0, order)
    await turns()
    with pytest.raises(Overloaded):
        async with limit.slot(0.001):
            raise AssertionError("there is no slot")
    assert limit.waiting == 0
    await end([worker])
    assert limit.busy == 0


async def test_a_slot_given_to_somebody_who_was_cancelled_in_that_moment_is_not_lost() -> None:
    limit, order = ConcurrencyLimit(1, 5), list[int]()
    first, second, third = (Worker(limit, number, order) for number in range(3))
    await turns()
    first.go.set()
    await asyncio.sleep(0)
    third.task.cancel()
    await turns()
    assert second.inside or third.inside
    await end([second, third])
    assert (limit.busy, limit.waiting) == (0, 0)


@pytest.mark.parametrize(("slots", "queue"), [(0, 1), (1, -1)])
def test_a_limit_that_lets_nobody_in_is_refused(slots: int, queue: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        ConcurrencyLimit(slots, queue)


async def test_who_is_about_to_leave_a_full_queue_makes_room_without_harm() -> None:
    limit, order = ConcurrencyLimit(1, 1), list[int]()
    holder = Worker(limit, 0, order)
    await turns()
    leaving = Worker(limit, 1, order)
    await turns()
    newcomer = Worker(limit, 2, order)
    leaving.task.cancel()  # its place is cancelled now; it leaves the queue in its own next turn, after the newcomer's
    await turns()
    assert (limit.busy, limit.waiting) == (1, 1)
    await end([holder, newcomer])
    assert order == [0, 2]
    assert leaving.task.cancelled()
    assert (limit.busy, limit.waiting) == (0, 0)
