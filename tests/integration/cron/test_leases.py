"""The same rules for every LeaseStore: in memory, in Postgres, in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from services.cron.leases import LEASE, PostgresLeases, RedisLeases
from services.cron.store.schedules import Schedules, open_schedules
from services.patterns.lease import LeaseStore, LeaseUnavailable, MemoryLeases
from tests.integration.cron.stack import Stack, until
from tests.servers import RedisServer

pytestmark = pytest.mark.integration

Opener = Callable[[], LeaseStore]


@pytest.fixture(params=["memory", "postgres", "redis"])
async def opener(request: pytest.FixtureRequest, stack: Stack, redis_server: RedisServer) -> AsyncIterator[Opener]:
    """Opens stores that share their leases, as processes do."""
    memory = MemoryLeases(asyncio.get_running_loop().time)
    opened: list[PostgresLeases | RedisLeases] = []

    def made() -> LeaseStore:
        if request.param == "memory":
            return memory
        one = (
            PostgresLeases(stack.app_url, "node")
            if request.param == "postgres"
            else RedisLeases(redis_server.url, stack.prefix)
        )
        opened.append(one)
        return one

    yield made
    for each in opened:
        await each.close()


async def test_one_holder_at_a_time_and_a_greater_epoch_for_the_next(opener: Opener) -> None:
    a, b = opener(), opener()
    assert await a.acquire("x", "a", 60) == 1
    assert await b.acquire("x", "b", 60) is None
    assert await b.acquire("y", "b", 60) == 1, "another lease"
    await a.release("x", "a", 1)
    assert await b.acquire("x", "b", 60) == 2
    assert await a.renew("x", "a", 1, 60) is False


async def test_it_says_when_it_ends(opener: Opener) -> None:
    a, b = opener(), opener()
    assert await b.remaining("x") <= 0
    await a.acquire("x", "a", 60)
    assert 50 < await b.remaining("x") <= 60
    await a.renew("x", "a", 1, 120)
    assert 110 < await b.remaining("x") <= 120
    await a.release("x", "a", 1)
    assert await b.remaining("x") <= 0


async def test_an_expired_lease_is_taken_by_the_next_who_asks(opener: Opener) -> None:
    a, b = opener(), opener()
    assert await a.acquire("x", "a", 0.2) == 1

    async def taken() -> int | None:
        return await b.acquire("x", "b", 60)

    assert await until(taken, what="the next holder") == 2
    assert await a.renew("x", "a", 1, 60) is False
    await a.release("x", "a", 1)
    assert await b.renew("x", "b", 2, 60) is True


async def test_a_renewal_keeps_others_out_for_longer(opener: Opener) -> None:
    a, b = opener(), opener()
    assert await a.acquire("x", "a", 60) == 1
    assert await a.renew("x", "a", 1, 120) is True
    assert await b.acquire("x", "b", 60) is None
    assert await a.renew("x", "a", 2, 60) is False, "an epoch that was never given"


async def test_the_holder_itself_begins_a_new_epoch(opener: Opener) -> None:
    a = opener()
    assert [await a.acquire("x", "a", 60) for _ in range(3)] == [1, 2, 3]
    assert await a.renew("x", "a", 2, 60) is False


async def test_of_many_that_ask_at_once_one_gets_it(opener: Opener) -> None:
    stores = [opener() for _ in range(8)]
    for round_ in range(1, 6):
        found = await asyncio.gather(*(one.acquire("x", f"h{n}", 60) for n, one in enumerate(stores)))
        (winner,) = [n for n, epoch in enumerate(found) if epoch is not None]
        assert found[winner] == round_
        await stores[winner].release("x", f"h{winner}", round_)


async def test_a_store_that_is_away_is_no_answer() -> None:
    with pytest.raises(LeaseUnavailable):
        await PostgresLeases("postgresql://x:y@127.0.0.1:1/z", "node").acquire("x", "a", 1)
    redis = RedisLeases("redis://127.0.0.1:1/0", "")
    with pytest.raises(LeaseUnavailable):
        await redis.acquire("x", "a", 1)
    await redis.close()


async def test_postgres_asks_again_over_a_new_connection(stack: Stack) -> None:
    store = PostgresLeases(stack.app_url, "node")
    assert await store.acquire("x", "a", 60) == 1
    await stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cron-lease'")
    with suppress(LeaseUnavailable):
        await store.renew("x", "a", 1, 60)
    assert await store.renew("x", "a", 1, 60) is True
    await store.close()


async def test_an_epoch_that_redis_forgot_and_gives_again_is_refused_by_postgres(stack: Stack) -> None:
    async with _fencing(stack, 2) as two:
        assert await two.fence("a", "node") is True
    async with _fencing(stack, 2) as again, _fencing(stack, 1) as lower, _fencing(stack, 3) as higher:
        assert await again.fence("b", "node") is False
        assert await lower.fence("b", "node") is False
        assert await higher.fence("b", "node") is True


@asynccontextmanager
async def _fencing(stack: Stack, epoch: int) -> AsyncIterator[Schedules]:
    async with open_schedules(stack.app_url, epoch) as schedules:
        yield schedules


async def test_the_database_refuses_an_epoch_that_shrinks(stack: Stack) -> None:
    await stack.sql("INSERT INTO leases VALUES ($1, 'a', 'n', 5, now(), now(), now())", LEASE)
    with pytest.raises(asyncpg.CheckViolationError):
        await stack.sql("UPDATE leases SET epoch = 4")
    with pytest.raises(asyncpg.CheckViolationError):
        await stack.sql("UPDATE leases SET holder = 'b'")
