"""A new index while queries and changes go on: nothing is lost, queries never fail, and a kill costs nothing but time."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.search import failpoints
from services.search.engine import Write
from tests.integration.search.stack import Stack, some, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PRODUCTS = 150


@pytest.fixture
async def full(stack: Stack) -> Stack:
    """An indexer that runs, and an index that is as the database is."""
    await stack.fill(PRODUCTS)
    await stack.tell_everything()
    await stack.start("indexer")
    await stack.indexed()
    return stack


@asynccontextmanager
async def changing(stack: Stack) -> AsyncIterator[None]:
    """Prices change and products go, until the block ends."""
    chance = random.Random(3)
    over = asyncio.Event()

    async def change() -> None:
        step = 0
        while not over.is_set():
            step += 1
            if chance.random() < 0.25:
                await stack.delete(some(chance.randrange(PRODUCTS)).id)
            else:
                await stack.price(some(chance.randrange(PRODUCTS)).id, 10_000 + step)

    task = asyncio.create_task(change())
    try:
        yield
    finally:
        over.set()
        await task


@asynccontextmanager
async def querying(stack: Stack) -> AsyncIterator[list[int]]:
    """Queries by the alias all the while; yields how many documents each saw. Any failure fails the block."""
    seen: list[int] = []
    over = asyncio.Event()

    async def query() -> None:
        async with stack.engine() as engine:
            while not over.is_set():
                seen.append(await engine.count(f"{stack.prefix}products"))
                await asyncio.sleep(0.005)

    task = asyncio.create_task(query())
    try:
        yield seen
    finally:
        over.set()
        await task


async def test_writes_and_deletes_made_during_a_reindex_survive_it_and_no_query_fails(full: Stack) -> None:
    old = await full.reading()
    async with querying(full) as seen, changing(full):
        ran = await full.command("index", "reindex", "--rate", "150")
    assert ran.code == 0, ran.said
    new = await full.reading()
    assert new != old
    assert await full.writing() == tuple(sorted((old, new)))
    await full.indexed(new)
    await full.indexed(old)
    assert min(seen) >= len(await full.truth())  # products only go


async def test_a_rollback_finds_the_old_index_as_fresh_as_the_new_one(full: Stack) -> None:
    old = await full.reading()
    assert (await full.command("index", "reindex")).code == 0
    new = await full.reading()
    await full.price(some(1).id, 31)
    ran = await full.command("index", "rollback")
    assert (ran.code, await full.reading()) == (0, old)
    await full.indexed()

    refused = await full.command("index", "reindex")
    assert refused.code == 1
    assert f"{new} still gets all changes" in refused.said
    assert (await full.command("index", "drop", old)).code == 1
    assert (await full.command("index", "drop", new)).code == 0
    assert await full.writing() == (old,)
    assert (await full.command("index", "rollback")).code == 1


@pytest.mark.parametrize("point", failpoints.REINDEX)
async def test_a_reindex_killed_at_any_point_goes_on_where_it_was(full: Stack, point: str) -> None:
    arming = {"LAB_FAILPOINTS": f"{point}=kill@1", "SEARCH_PORTION": "40"}
    killed = await full.command("index", "reindex", environment=arming)
    assert killed.code == -9, killed.said
    await full.delete(some(7).id)
    await full.price(some(140).id, 6)
    ran = await full.command("index", "reindex")
    assert ran.code == 0, ran.said
    if point != failpoints.REINDEX_AFTER_SWAP:
        assert "going on with" in ran.said
    rows = await full.sql("SELECT state, copied FROM reindexes ORDER BY id")
    assert [row["state"] for row in rows] == ["swapped"]
    assert PRODUCTS - 1 <= rows[0]["copied"] <= PRODUCTS
    await full.indexed()


async def test_two_reindexes_at_once_take_turns(full: Stack) -> None:
    first, log = full.begin("index", "reindex", "--rate", "50")

    async def copying() -> bool:
        return bool(await full.sql("SELECT 1 FROM reindexes WHERE copied > 0"))

    await until(copying, what="the copy")
    first.send_signal(signal.SIGSTOP)  # it holds its lock, however long the second takes to start
    second = await full.command("index", "reindex")
    first.send_signal(signal.SIGCONT)
    assert second.code == 1
    assert "Another process reindexes" in second.said
    assert await asyncio.to_thread(first.wait, 60) == 0, log.read_text()


async def test_a_swap_can_wait_and_a_reindex_can_be_given_up(full: Stack) -> None:
    old = await full.reading()
    assert (await full.command("index", "swap")).code == 1
    assert (await full.command("index", "reindex", "--no-swap")).code == 0
    assert await full.reading() == old
    assert (await full.command("index", "swap")).code == 0
    new = await full.reading()
    assert new != old
    assert (await full.command("index", "drop", old)).code == 0

    assert (await full.command("index", "reindex", "--no-swap")).code == 0
    status = await full.command("index", "status")
    assert "ready" in status.said
    assert "for queries and changes" in status.said
    assert (await full.command("index", "abandon")).code == 0
    assert (await full.reading(), await full.writing()) == (new, (new,))
    assert (await full.command("index", "abandon")).code == 1


async def test_a_product_that_no_index_takes_stops_the_swap_until_it_is_accepted(full: Stack) -> None:
    old = await full.reading()
    await full.catalog("UPDATE products SET attributes = '[1]' WHERE id = $1", some(3).id)
    ran = await full.command("index", "reindex")
    assert ran.code == 1
    assert f"unindexable {some(3).id}" in ran.said
    assert await full.reading() == old
    assert (await full.command("index", "reindex", "--accept-refused", "1")).code == 0
    assert await full.reading() != old


async def test_an_unknown_mapping_version_is_refused(full: Stack) -> None:
    ran = await full.command("index", "reindex", "--mapping", "99")
    assert ran.code == 1
    assert "no mapping of version 99" in ran.said


async def test_a_new_field_is_added_in_place(full: Stack) -> None:
    ran = await full.command("index", "update")
    assert (ran.code, "new fields: none" in ran.said) == (0, True)


async def test_the_audit_names_and_repairs_missing_stale_and_extra_documents(full: Stack) -> None:
    index = await full.reading()
    assert (await full.command("audit")).code == 0
    lost, stale, extra = some(1).id, some(2).id, "ffffffff-0000-7000-8000-000000000000"
    async with full.engine() as engine:
        old = (await engine.get(index, str(stale))).source
        await engine.bulk(
            [
                Write(index, str(lost), 1 << 62, None),
                Write(index, extra, 1, b'{"id":"ffffffff-0000-7000-8000-000000000000","digest":5}'),
            ]
        )
        # As if the change of a price had been lost: the document of before, and the truth has moved on.
        await full.catalog("UPDATE products SET price = 987654 WHERE id = $1", stale)
        assert old["price"] != 987654
        await engine.refresh(index)
    ran = await full.command("audit")
    assert ran.code == 1
    assert {f"missing {lost}", f"stale {stale}", f"extra {extra}"} <= set(ran.said.splitlines())
    repaired = await full.command("audit", "--repair")
    assert f"stale {stale} repaired" in repaired.said
    assert f"extra {extra} repaired" in repaired.said
    # The planted delete has a version of the far future, which only a new index gets rid of.
    assert f"missing {lost} not repaired" in repaired.said
    assert (await full.command("index", "reindex")).code == 0
    assert (await full.command("audit")).code == 0
    deep = await full.command("audit", "--deep")
    assert (deep.code, f"{PRODUCTS} products" in deep.said) == (0, True)


async def test_the_canary_measures_how_soon_a_change_is_found(full: Stack) -> None:
    canary = await full.start("canary", environment={"SEARCH_CANARY_INTERVAL_SECONDS": "0.2"})
    over = asyncio.Event()
    tell = asyncio.create_task(tell_of_the_canary(full, over))
    try:

        async def seen() -> bool:
            return await full.metric(canary, "search_freshness_seconds_count") >= 3

        await until(seen, what="three sightings")
    finally:
        over.set()  # not cancelled: aiokafka leaves a connection open that is cancelled while it is made
        await tell

    async def unseen() -> bool:
        return await full.metric(canary, "search_freshness_oldest_unseen_seconds") > 1

    await until(unseen, what="the alarm, now that nobody tells the indexer")


async def tell_of_the_canary(stack: Stack, over: asyncio.Event) -> None:
    """What Debezium does."""
    from services.search.documents import CANARY

    while not over.is_set():
        rows = await stack.catalog("SELECT xmin::text::bigint AS xid FROM products WHERE id = $1", CANARY)
        for row in rows:
            await stack.tell([(CANARY, row["xid"], "u")])
        await asyncio.sleep(0.1)
