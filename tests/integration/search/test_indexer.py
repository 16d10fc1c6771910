"""Changes of the catalogue reach the index: late, doubled, poisonous or under kills, it ends as the database is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import msgspec
import pytest
from aiohttp import web

from services.contracts import topics
from services.search import failpoints
from tests.integration.search.red import red_index
from tests.integration.search.stack import Process, Stack, client, some, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def test_what_a_snapshot_tells_is_indexed_and_changes_follow(stack: Stack) -> None:
    await stack.fill(120)
    await stack.tell_everything()
    indexer = await stack.start("indexer")
    await stack.indexed()
    assert len(await stack.prices()) == 120

    await stack.price(some(3).id, 77)
    await stack.delete(some(4).id)
    await stack.indexed()
    assert (await stack.prices())[some(3).id] == 77
    assert some(4).id not in await stack.prices()
    assert indexer.terminate() == 0


async def test_late_and_doubled_changes_never_cover_newer_ones_and_do_not_resurrect(stack: Stack) -> None:
    await stack.fill(20)
    first = await stack.price(some(1).id, 11)
    await stack.tell_everything()
    indexer = await stack.start("indexer")
    await stack.price(some(1).id, 12, times=5)
    await stack.delete(some(2).id)
    await stack.indexed()

    await stack.tell([(some(1).id, first, "u"), (some(2).id, first, "u"), (some(2).id, first, "r")])

    async def worked_on() -> bool:
        return await stack.metric(indexer, 'search_indexer_records_total{feed="products",result="taken"}') >= 31

    await until(worked_on, what="the late records")
    await stack.indexed()
    assert (await stack.prices())[some(1).id] == 12
    assert some(2).id not in await stack.prices()


async def test_garbage_and_poison_are_parked_with_their_cause_and_the_rest_goes_on(stack: Stack) -> None:
    await stack.fill(10)
    poison, good = some(5).id, some(6).id
    # No keyword may be so long; the catalogue's tables let it through.
    await stack.change(poison, "UPDATE products SET model = repeat('x', 40000) WHERE id = $1")
    malformed = some(7).id
    await stack.change(malformed, "UPDATE products SET attributes = '[1]' WHERE id = $1")
    name = topics.CATALOG_PRODUCT_CHANGES.name
    # A key there is always: the broker takes no record without one into a compacted topic.
    await stack.send(name, [(b"\xff\x00", b"x"), (b"7", b"{}"), (str(good).encode(), b"\x00garbage")])
    await stack.start("indexer")
    await stack.price(good, 99)

    async def arrived() -> bool:
        return (await stack.prices()).get(good) == 99

    await until(arrived, what="the good change")

    async def all_parked() -> bool:
        return len(await stack.parked()) >= 5

    await until(all_parked, what="five dead letters")
    parked = await stack.parked()
    reasons = {(each["key"], each["dlq_reason"]) for each in parked}
    assert {reason for _, reason in reasons} >= {"malformed_key", "malformed_body", "malformed_attributes"}
    (letter,) = [each for each in parked if each["key"] == str(poison)]
    assert letter["dlq_reason"] in (
        "illegal_argument_exception",
        "mapper_parsing_exception",
        "document_parsing_exception",
    )
    assert "model" in letter["dlq_detail"]
    assert letter["dlq_topic"] == stack.prefix + name

    await stack.change(poison, "UPDATE products SET model = 'X 1' WHERE id = $1")
    await until(lambda: has(stack, poison), what="the mended product")


async def has(stack: Stack, product: UUID) -> bool:
    return product in await stack.prices()


async def test_a_brand_that_changed_its_name_is_brought_to_its_products(stack: Stack) -> None:
    await stack.fill(60)
    await stack.tell_everything()
    await stack.start("indexer")
    await stack.indexed()
    brand = some(0).brand
    row = (await stack.catalog("SELECT id, pg_current_xact_id()::text AS xid FROM brands WHERE id = $1", brand))[0]
    await stack.catalog("UPDATE brands SET name = 'Renamed' WHERE id = $1", brand)
    body = {"op": "u", "source": {"table": "brands", "txId": int(row["xid"])}, "after": {"id": brand}}
    await stack.send(topics.CATALOG_REFERENCE_CHANGES.name, [(str(brand).encode(), msgspec.json.encode(body))])

    async def renamed() -> bool:
        async with stack.engine() as engine:
            alias = f"{stack.prefix}products"
            await engine.refresh(alias)
            count = await engine.count(alias, {"term": {"brand": "Renamed"}})
        wanted = await stack.catalog("SELECT count(*) AS n FROM products WHERE brand_id = $1", brand)
        return bool(count == wanted[0]["n"] > 0)

    await until(renamed, what="the new name")


@pytest.mark.parametrize("point", failpoints.INDEXER)
async def test_an_indexer_killed_at_any_point_loses_no_change(stack: Stack, point: str) -> None:
    await stack.fill(30)
    await stack.tell_everything()
    doomed = await stack.start("indexer", failpoints=f"{point}=kill@1")
    await until(lambda: stack.died(doomed), what="the kill")
    assert doomed.popen.returncode == -9
    await stack.price(some(1).id, 5)
    await stack.delete(some(2).id)
    await stack.start("indexer")
    await stack.indexed()


async def test_two_indexers_share_the_topic_and_one_takes_over_from_the_other(stack: Stack) -> None:
    await stack.fill(40)
    await stack.tell_everything()
    one = await stack.start("indexer")
    two = await second(stack)
    for number in range(20):
        await stack.price(some(number).id, 1000 + number)
    one.kill()
    for number in range(20):
        await stack.price(some(number).id, 2000 + number)
    await stack.indexed(within=90)
    assert two.popen.poll() is None


async def second(stack: Stack) -> Process:
    ports, stack.ports = stack.ports, {}
    try:
        return await stack.start("indexer")
    finally:
        stack.ports = ports


async def test_changes_wait_while_there_is_no_index_to_write_to(stack: Stack) -> None:
    await stack.fill(30)
    await stack.tell_everything()
    indexer = await stack.start("indexer", environment={"SEARCH_HOLD_SECONDS": "0.1"})
    await stack.indexed()
    name = await stack.reading()
    async with stack.engine() as engine:
        await engine.update_aliases([{"remove": {"index": name, "alias": f"{stack.prefix}products-write"}}])
        await stack.price(some(1).id, 4242)
        await until(lambda: held(stack, indexer), what="the pause")
        assert (await stack.prices())[some(1).id] != 4242
        await engine.update_aliases([{"add": {"index": name, "alias": f"{stack.prefix}products-write"}}])
    await stack.indexed()
    assert await stack.parked() == []


async def test_it_is_ready_when_its_own_index_is_whatever_else_the_engine_still_recovers(stack: Stack) -> None:
    async with stack.engine() as engine, red_index(engine, f"{stack.prefix}kept-of-another-run"):
        indexer = await stack.start("indexer")
        name, alias = await stack.reading(), f"{stack.prefix}products-write"
        await engine.update_aliases([{"remove": {"index": name, "alias": alias}}])
        await until(lambda: not_ready(indexer, "index"), what="it says that there is no index for changes")
        await engine.update_aliases([{"add": {"index": name, "alias": alias}}])


async def not_ready(indexer: Process, check: str) -> bool:
    async with client() as session, session.get(f"{indexer.url}/health/ready") as answer:
        return answer.status == 503 and await answer.text() == f"not ready: {check}\n"


async def test_changes_wait_while_the_index_is_read_only_as_on_a_full_disk(stack: Stack) -> None:
    await stack.fill(30)
    await stack.tell_everything()
    indexer = await stack.start("indexer", environment={"SEARCH_HOLD_SECONDS": "0.1", "SEARCH_BACKOFF_SECONDS": "0.02"})
    await stack.indexed()
    name = await stack.reading()
    async with stack.engine() as engine:
        await engine.put_settings(name, {"blocks.write": True})
        await stack.price(some(1).id, 4242)
        await until(lambda: held(stack, indexer), what="the pause")
        await engine.put_settings(name, {"blocks.write": False})
    await stack.indexed()
    assert await stack.parked() == []


async def held(stack: Stack, indexer: Process) -> bool:
    return await stack.metric(indexer, 'search_indexer_held{feed="products"}') == 1


@dataclass
class Congested:
    """A proxy before the engine that answers bulk requests with 429, or hangs up, while it is told to."""

    target: str
    answer: int | None = None
    refused: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.path.endswith("/_bulk") and self.answer is not None:
            self.refused += 1
            error = {"type": "rejected_execution_exception", "reason": "the queue is full"}
            return web.json_response({"error": error, "status": self.answer}, status=self.answer)
        kind = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        url = self.target + request.path_qs
        async with client() as session, session.request(request.method, url, data=body, headers=kind) as got:
            return web.Response(status=got.status, body=await got.read(), content_type="application/json")


@asynccontextmanager
async def congested(stack: Stack) -> AsyncIterator[tuple[Congested, str]]:
    proxy = Congested(stack.engine_url)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield proxy, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("answer", [429, 503])
async def test_while_the_engine_answers_429_the_feed_is_paused_and_nothing_is_dropped(
    stack: Stack, answer: int
) -> None:
    await stack.fill(30)
    async with congested(stack) as (proxy, url):
        environment = {
            "SEARCH_ENGINE_URLS": url,
            "SEARCH_HOLD_SECONDS": "0.1",
            "SEARCH_BACKOFF_SECONDS": "0.02",
            "SEARCH_BACKOFF_LIMIT_SECONDS": "0.1",
        }
        indexer = await stack.start("indexer", environment=environment)
        proxy.answer = answer
        await stack.tell_everything()
        await until(lambda: held(stack, indexer), what="the pause")
        await stack.price(some(1).id, 4242)

        async def tried_often() -> bool:
            return proxy.refused >= 10

        await until(tried_often, what="ten tries")
        assert await stack.prices() == {}
        proxy.answer = None
        await stack.indexed()
        assert not await held(stack, indexer)
    assert await stack.parked() == []


async def test_a_product_that_nobody_knows_is_no_trouble(stack: Stack) -> None:
    await stack.fill(5)
    indexer = await stack.start("indexer")
    await stack.tell([(uuid4(), 3, "r")])
    await stack.tell_everything()
    await stack.indexed()
    assert await asyncio.to_thread(indexer.terminate) == 0
