"""The exercise of day 3: a right guard passes the lab's own checkers and plausible wrong ones do not, in simulated time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from labs.engine.model import FaultRecord, Operation, Outcome, Phase, Status
from labs.invariants import breakers as b
from labs.week02.day3_circuit_breakers import LIVE, RECOVERED, TOLD, VICTIM
from labs.week02.yours_day3 import Ending, Guard
from services.kit.errors import Problem
from services.patterns.breaker import KeyedBreakers, Permit, Rule
from tests.unit.invariants.evidence import ListedEvidence, operation

RATE, START, END, LAST = 100, 5.0, 12.0, 18.0
TIMEOUT, SLOW = 2.0, 1.6
EVERYWHERE = tuple(range(b.SHARDS))

Bank = Callable[[int, float], tuple[Ending, float]]
"""How a call to a shard at some time ends, and how long it takes."""


def bank(ill: tuple[int, ...], ending: Ending, seconds: float) -> Bank:
    def call(shard: int, at: float) -> tuple[Ending, float]:
        return (ending, seconds) if shard in ill and START <= at < END else (Ending.ANSWERED, 0.01)

    return call


SCENARIOS: Mapping[str, tuple[tuple[int, ...], Bank]] = {
    "one_dead": ((VICTIM,), bank((VICTIM,), Ending.FAILED, 0.001)),
    "one_slow": ((VICTIM,), bank((VICTIM,), Ending.ANSWERED, SLOW)),
    "all_dead": (EVERYWHERE, bank(EVERYWHERE, Ending.FAILED, TIMEOUT)),
}


def simulated(guard: Guard, scenario: str) -> ListedEvidence:
    """The history that clients would have seen of a service with this guard."""
    ill, call = SCENARIOS[scenario]
    told: list[tuple[float, int, int, Ending, float]] = []
    history: list[Operation] = []
    for number in range(int(RATE * LAST)):
        now = number / RATE
        while told and told[0][0] <= now:
            at, _, shard, ending, seconds = heapq.heappop(told)
            guard.ended(shard, at, ending, seconds)
        shard = b.shard_of(f"tok_{number}", b.SHARDS)
        one = replace(operation(str(number), Outcome.UNKNOWN), phase=Phase.INJECT, intended_at=now, sent_at=now)
        if guard.wait(shard, now) is not None:
            history.append(replace(one, done_at=now + 0.001, error=b.REFUSED))
            continue
        ending, seconds = call(shard, now)
        heapq.heappush(told, (now + seconds, number, shard, ending, seconds))
        outcome = Outcome.OK if ending is Ending.ANSWERED else Outcome.UNKNOWN
        history.append(replace(one, done_at=now + seconds, outcome=outcome))
    roles = " ".join(f"sut.shard{number}" for number in ill)
    fault = FaultRecord("down", roles, "proxies", {}, START, START, END, None, None)
    return ListedEvidence(history=tuple(history), faults=(fault,), scenario=scenario)


async def broken_by(make: Callable[[], Guard]) -> set[tuple[str, str]]:
    """Which checker finds something in which scenario: those that the lab asks there."""
    found = set()
    for scenario in SCENARIOS:
        for invariant in (TOLD, RECOVERED) if scenario == "all_dead" else (LIVE,):
            finding = await invariant(simulated(make(), scenario))
            assert finding.status in (Status.HELD, Status.BROKEN), finding.note
            if finding.status is Status.BROKEN:
                found.add((scenario, invariant.__name__))
    return found


class Counting(Guard):
    """Opens when `share` of the last `window` seconds failed, for `open_seconds`. `key` says what it stands for."""

    def __init__(self, *, key: Callable[[int], int], share: float = 0.5, open_seconds: float = 1.0) -> None:
        self._key, self._share, self._open_seconds = key, share, open_seconds
        self._calls: dict[int, list[tuple[float, bool]]] = {}
        self._until: dict[int, float] = {}

    def wait(self, shard: int, now: float) -> float | None:
        left = self._until.get(self._key(shard), 0.0) - now
        return left if left > 0 else None

    def ended(self, shard: int, now: float, ending: Ending, seconds: float) -> None:
        key = self._key(shard)
        calls = [one for one in self._calls.get(key, []) if one[0] > now - 5]
        calls.append((now, ending is Ending.FAILED or seconds > 1))
        self._calls[key] = calls
        if len(calls) >= 10 and sum(bad for _, bad in calls) >= self._share * len(calls):
            self._until[key] = now + self._open_seconds
            self._calls[key] = []


class Consecutive(Guard):
    """Opens after five failures in a row, and only errors are failures; a late answer to an old call resets it."""

    def __init__(self) -> None:
        self._row = dict.fromkeys(EVERYWHERE, 0)

    def wait(self, shard: int, now: float) -> float | None:
        return 30.0 if self._row[shard] >= 5 else None

    def ended(self, shard: int, now: float, ending: Ending, seconds: float) -> None:
        self._row[shard] = 0 if ending is Ending.ANSWERED else self._row[shard] + 1


class Never(Guard):
    """No guard at all."""

    def wait(self, shard: int, now: float) -> float | None:
        return None


class Keyed(Guard):
    """The pattern of this repository."""

    def __init__(self) -> None:
        self._now = 0.0
        rule = Rule(
            window_seconds=4.0, minimum_calls=10, failure_share=0.5, slow_seconds=1.0, slow_share=0.5,
            open_seconds=1.0, probes=3, probe_seconds=10.0,
        )  # fmt: skip
        self._breakers = KeyedBreakers(rule, lambda: self._now, most_keys=b.SHARDS)
        self._permits: dict[int, deque[Permit]] = {shard: deque() for shard in EVERYWHERE}

    def wait(self, shard: int, now: float) -> float | None:
        self._now = now
        breaker = self._breakers.of(str(shard))
        if (permit := breaker.acquire()) is None:
            return breaker.retry_after
        self._permits[shard].append(permit)
        return None

    def ended(self, shard: int, now: float, ending: Ending, seconds: float) -> None:
        self._now = now
        succeeded = {Ending.ANSWERED: True, Ending.FAILED: False}.get(ending)
        self._breakers.of(str(shard)).release(self._permits[shard].popleft(), succeeded)


def per_shard(shard: int) -> int:
    return shard


def whole_bank(shard: int) -> int:
    return 0


@pytest.mark.parametrize("make", [Keyed, lambda: Counting(key=per_shard)])
async def test_a_guard_for_each_shard_that_opens_at_half_and_tries_again_soon_passes(make: Callable[[], Guard]) -> None:
    assert await broken_by(make) == set()


async def test_one_guard_for_the_whole_bank_refuses_the_cards_of_live_shards() -> None:
    found = await broken_by(lambda: Counting(key=whole_bank, share=0.05, open_seconds=10))
    assert ("one_dead", "live_shards_answered") in found


async def test_no_guard_leaves_everybody_waiting_when_all_are_away() -> None:
    assert await broken_by(Never) == {("all_dead", "told_at_once")}


async def test_a_guard_that_stays_open_for_long_refuses_a_bank_that_is_back() -> None:
    assert ("all_dead", "recovered_soon") in await broken_by(lambda: Counting(key=per_shard, open_seconds=30))


async def test_a_guard_that_counts_failures_in_a_row_and_never_tries_again_does_not_recover() -> None:
    assert ("all_dead", "recovered_soon") in await broken_by(Consecutive)


def test_the_stub_says_what_is_to_be_written() -> None:
    with pytest.raises(Problem) as problem:
        Guard().wait(0, 0.0)
    assert problem.value.status == 501
