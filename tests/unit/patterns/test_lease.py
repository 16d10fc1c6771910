"""Leases: one holder by the store's clock, validity from before the asking, epochs that only grow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.patterns.lease import (
    DRIFT,
    SHORTEST_PAUSE,
    Lease,
    LeaseKeeper,
    LeaseLost,
    LeaseUnavailable,
    MemoryLeases,
    admits,
)


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ScriptedStore:
    """Answers renewals from a list: True, False, or an error; acquires take `slow` seconds of our clock."""

    time: Time
    renewals: list[bool | None] = field(default_factory=list)
    slow: float = 0.0
    asked: int = 0

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        self.time.now += self.slow
        return 7

    async def remaining(self, name: str) -> float:
        return 0.0

    async def renew(self, name: str, holder: str, epoch: int, seconds: float) -> bool:
        self.asked += 1
        answer = self.renewals.pop(0) if self.renewals else None
        if answer is None:
            raise LeaseUnavailable
        return answer

    async def release(self, name: str, holder: str, epoch: int) -> None:
        raise LeaseUnavailable


def keeper(store: ScriptedStore | MemoryLeases, time: Time, seconds: float = 10.0, holder: str = "a") -> LeaseKeeper:
    return LeaseKeeper(store, "x", holder, seconds, time)


async def taken(who: LeaseKeeper) -> Lease:
    lease = await who.acquire()
    assert lease is not None
    return lease


async def test_a_lease_is_one_holders_until_it_expires_by_the_stores_clock() -> None:
    store_time, own = Time(), Time()
    store = MemoryLeases(store_time)
    a, b = keeper(store, own, holder="a"), keeper(store, own, holder="b")
    first = await taken(a)
    store_time.now += 9.9
    assert await b.acquire() is None
    store_time.now += 0.2
    second = await taken(b)
    assert second.epoch == first.epoch + 1
    assert await a.acquire() is None


async def test_who_waits_asks_again_when_it_ends_and_not_later() -> None:
    time = Time()
    store = MemoryLeases(time)
    a, b = keeper(store, time, holder="a"), keeper(store, time, holder="b")
    await taken(a)
    assert await b.pause(0.2) == 0.2
    time.now += 9.95
    assert await b.pause(0.2) == pytest.approx(0.05)
    time.now += 0.0499
    assert await b.pause(0.2) == SHORTEST_PAUSE, "clocks that differ a little do not make it ask in a circle"
    time.now += 1
    assert await b.pause(0.2) == SHORTEST_PAUSE


async def test_a_store_that_cannot_say_when_it_ends_is_unavailable() -> None:
    class Silent(ScriptedStore):
        async def remaining(self, name: str) -> float:
            await asyncio.Event().wait()
            return 0.0

    with pytest.raises(LeaseUnavailable):
        await keeper(Silent(Time()), Time(), seconds=0.01).pause(1.0)


async def test_a_released_lease_is_free_at_once_and_its_epoch_is_not_forgotten() -> None:
    time = Time()
    store = MemoryLeases(time)
    a, b = keeper(store, time, holder="a"), keeper(store, time, holder="b")
    assert await a.release(await taken(a))
    assert (await taken(b)).epoch == 2


async def test_a_holder_that_asks_again_gets_a_greater_epoch() -> None:
    time = Time()
    a = keeper(MemoryLeases(time), time)
    assert [(await taken(a)).epoch for _ in range(3)] == [1, 2, 3]


async def test_a_release_under_an_old_epoch_takes_nothing_away() -> None:
    time = Time()
    store = MemoryLeases(time)
    a, b = keeper(store, time, holder="a"), keeper(store, time, holder="b")
    old = await taken(a)
    time.now += 11
    await taken(b)
    await a.release(old)
    assert await keeper(store, time, holder="c").acquire() is None


async def test_validity_counts_from_before_the_store_was_asked() -> None:
    time = Time()
    lease = await taken(keeper(ScriptedStore(time, slow=4.0), time))
    assert lease.remaining() == pytest.approx(10 * (1 - DRIFT) - 4)


async def test_a_lease_whose_answer_came_too_late_is_no_lease() -> None:
    time = Time()
    assert await keeper(ScriptedStore(time, slow=10.0), time).acquire() is None


def test_a_lease_is_renewed_after_a_third_and_ends_before_the_store_lets_go() -> None:
    time = Time()
    lease = Lease(1, 9.0, time(), time)
    assert lease.renew_in() == pytest.approx(3)
    time.now += 8.8
    assert lease.valid()
    time.now += 0.15
    assert not lease.valid(), "the store's nine seconds are not over yet, ours are"
    lease.renewed(time() - 1)
    assert lease.valid()
    assert lease.epoch == 1


def test_a_late_answer_of_an_older_renewal_does_not_shorten_a_lease() -> None:
    time = Time()
    lease = Lease(1, 9.0, time(), time)
    lease.renewed(time() + 3)
    lease.renewed(time() + 1)
    assert lease.renew_in() == pytest.approx(6)


async def test_a_renewal_that_the_store_refuses_ends_the_lease_at_once() -> None:
    loop = asyncio.get_running_loop()
    store = ScriptedStore(Time(), [True, False])
    who = LeaseKeeper(store, "x", "a", 0.03, loop.time)
    with pytest.raises(LeaseLost, match="somebody else"):
        await who.keep(await taken(who))
    assert store.asked == 2


async def test_a_silent_store_is_asked_again_until_the_lease_ends() -> None:
    loop = asyncio.get_running_loop()
    failures = []
    store = ScriptedStore(Time(), [True, None, None, True])
    who = LeaseKeeper(store, "x", "a", 0.15, loop.time, lambda: failures.append(1))
    lease = await taken(who)
    with pytest.raises(LeaseLost, match="silent"):
        await who.keep(lease)
    assert not lease.valid()
    assert len(failures) >= 3, "two that were outlived, and those that were not"


async def test_a_store_that_hangs_ends_the_lease_too() -> None:
    class Hanging(ScriptedStore):
        async def renew(self, name: str, holder: str, epoch: int, seconds: float) -> bool:
            await asyncio.Event().wait()
            return True

    loop = asyncio.get_running_loop()
    who = LeaseKeeper(Hanging(Time()), "x", "a", 0.1, loop.time)
    with pytest.raises(LeaseLost):
        await who.keep(await taken(who))


async def test_a_release_that_fails_says_so() -> None:
    time = Time()
    who = keeper(ScriptedStore(time), time)
    assert not await who.release(await taken(who))


def test_a_lease_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        keeper(MemoryLeases(Time()), Time(), seconds=0)


@given(st.lists(st.integers(0, 20)))
def test_behind_the_fence_epochs_never_go_back(epochs: list[int]) -> None:
    highest, let_in = 0, []
    for epoch in epochs:
        if admits(highest, epoch):
            let_in.append(epoch)
            highest = epoch
    assert let_in == sorted(let_in)


class Leases(RuleBasedStateMachine):
    """Holders that ask, renew, release and sleep in any order: never two with a valid lease, never an epoch twice."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.store = MemoryLeases(self.time)
        self.keepers = {name: keeper(self.store, self.time, holder=name) for name in "abc"}
        self.held: dict[str, Lease] = {}
        self.epochs: list[int] = []

    @rule(name=st.sampled_from("abc"))
    def acquire(self, name: str) -> None:
        lease = asyncio.run(self.keepers[name].acquire())
        if lease is not None:
            self.held[name] = lease
            self.epochs.append(lease.epoch)

    @rule(name=st.sampled_from("abc"), delay=st.floats(0, 3))
    def renew(self, name: str, delay: float) -> None:
        lease = self.held.get(name)
        if lease is None or not lease.valid():
            return
        asked = self.time()
        if asyncio.run(self.store.renew("x", name, lease.epoch, 10.0)):
            self.time.now += delay
            lease.renewed(asked)

    @rule(name=st.sampled_from("abc"))
    def release(self, name: str) -> None:
        lease = self.held.pop(name, None)
        if lease is not None:
            asyncio.run(self.keepers[name].release(lease))

    @rule(seconds=st.floats(0, 12))
    def sleep(self, seconds: float) -> None:
        self.time.now += seconds

    @invariant()
    def one_leader(self) -> None:
        assert sum(lease.valid() for lease in self.held.values()) <= 1

    @invariant()
    def epochs_grow(self) -> None:
        assert self.epochs == sorted(set(self.epochs))


TestLeases = Leases.TestCase
