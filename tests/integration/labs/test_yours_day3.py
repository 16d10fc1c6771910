"""The service around the guard of day 3's exercise, against a real bank of ten shards of which one is dead."""

from __future__ import annotations

import pytest

from labs.invariants.breakers import SHARDS
from tests.integration.labs.test_naive_breaker import DEAD, bank, running
from tests.integration.payments.stack import Stack

pytestmark = pytest.mark.integration

__all__ = ["bank"]

SOLUTION = "tests.integration.labs.solution_day3"
LIVE = [shard for shard in range(SHARDS) if shard != DEAD]


async def test_a_guard_for_each_shard_refuses_the_dead_one_and_serves_the_others(
    bank: tuple[Stack, list[str]],
) -> None:
    async with running("guarded", *bank, module=SOLUTION) as yours:
        assert [await yours.pay(DEAD) for _ in range(10)] == [504] * 10
        assert await yours.pay(DEAD) == 503
        assert {await yours.pay(shard) for shard in LIVE} == {201}


async def test_the_stub_takes_no_payment(bank: tuple[Stack, list[str]]) -> None:
    async with running("stub", *bank, module=SOLUTION) as yours:
        assert await yours.pay(LIVE[0]) == 501
