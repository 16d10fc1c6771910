"""What is done to a running system beside breaking it: more load, expensive queries, work to its end, another index."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from infra.runtime import Edge, RuntimeProblem
from labs.engine.model import (
    FaultContext,
    HealFailedError,
    InjectFailedError,
    OffersLoad,
    PrepareFailedError,
)
from labs.faults.one_shot import one_shot
from labs.faults.storm import storm
from labs.faults.surge import surge
from labs.week07.catalogue import EngineAnswerError, behind, clone, cloned_catalogue, index_is_full, kept_prefix, swap
from tests.labs.fake_world import FakeRuntime


@dataclass
class Context:
    """A FaultContext with one role, no edges, and what a test lets it know."""

    runtime: FakeRuntime
    session: aiohttp.ClientSession
    address: str = ""
    seed: int = 7
    variables: Mapping[str, str] = field(default_factory=lambda: {"LAB_PREFIX": "lab1_", "CATALOG_PRODUCTS": "3"})

    def service(self, role: str) -> str:
        return "engineered"

    def url(self, role: str) -> str:
        return self.address

    def edge(self, name: str) -> Edge:
        raise NotImplementedError

    def toxiproxy(self) -> str:
        raise NotImplementedError

    def now(self) -> float:
        return 0.0


@dataclass
class Growing(Context):
    offered: list[float] = field(default_factory=list)

    def offer(self, times: float) -> None:
        self.offered.append(times)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield session


# --- more load --------------------------------------------------------------------------------------------------------


async def test_a_surge_multiplies_the_load_and_takes_it_back(session: aiohttp.ClientSession) -> None:
    ctx, fault = Growing(FakeRuntime(), session), surge("sut", times=8)
    handle = await fault.inject(ctx)
    assert (await fault.receipt(ctx, handle)).proven
    await fault.heal(ctx)
    assert ctx.offered == [8, 1.0]


async def test_a_surge_of_nothing_changes_nothing(session: aiohttp.ClientSession) -> None:
    ctx, fault = Growing(FakeRuntime(), session), surge("sut", times=1)
    handle = await fault.inject(ctx)
    assert "zero" in (await fault.receipt(ctx, handle)).summary
    assert ctx.offered == []


async def test_where_nobody_offers_load_a_surge_fails(session: aiohttp.ClientSession) -> None:
    ctx: FaultContext = Context(FakeRuntime(), session)
    assert not isinstance(ctx, OffersLoad)
    with pytest.raises(InjectFailedError):
        await surge("sut", times=2).inject(ctx)
    with pytest.raises(HealFailedError):
        await surge("sut", times=2).heal(ctx)


def test_no_load_at_all_is_no_surge() -> None:
    with pytest.raises(ValueError, match="above 0"):
        surge("sut", times=0)


# --- work to its end --------------------------------------------------------------------------------------------------


async def test_work_runs_to_its_end_with_the_variables_of_the_variant(session: aiohttp.ClientSession) -> None:
    runtime = FakeRuntime()
    ctx, fault = Context(runtime, session), one_shot("reindex", called="reindex")
    handle = await fault.inject(ctx)
    receipt = await fault.receipt(ctx, handle)
    await fault.heal(ctx)
    assert receipt.proven
    assert receipt.summary.startswith("engineered took")
    assert runtime.envs["engineered"]["LAB_PREFIX"] == "lab1_"
    assert runtime.calls == ["forget engineered", "start engineered"]


async def test_work_that_fails_is_a_problem(session: aiohttp.ClientSession) -> None:
    with pytest.raises(RuntimeProblem):
        await one_shot("reindex", called="reindex").inject(Context(FakeRuntime(broken={"engineered"}), session))


async def test_work_that_is_not_to_be_done_is_not_done(session: aiohttp.ClientSession) -> None:
    runtime = FakeRuntime()
    ctx, fault = Context(runtime, session), one_shot("reindex", called="reindex", times=0)
    assert (await fault.receipt(ctx, await fault.inject(ctx))).proven
    assert runtime.calls == []


# --- expensive queries ------------------------------------------------------------------------------------------------


@dataclass
class Shop:
    """Answers every search with 422 for a star and 200 otherwise."""

    asked: Counter[str] = field(default_factory=Counter)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def search(self, request: web.Request) -> web.Response:
        text = request.query["q"]
        self.asked[text] += 1
        if sum(self.asked.values()) >= 10:
            self.enough.set()
        return web.Response(status=422 if "*" in text else 200)


@pytest.fixture
async def shop(session: aiohttp.ClientSession) -> AsyncIterator[tuple[Shop, Context]]:
    taker = Shop()
    app = web.Application()
    app.router.add_get("/v1/search", taker.search)
    async for address in serving(app):
        yield taker, Context(FakeRuntime(), session, address)


async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_storm_tells_how_it_was_answered_and_ends_with_its_receipt(shop: tuple[Shop, Context]) -> None:
    taker, ctx = shop
    fault = storm("sut", ["*a*", "*b*"], rate=500)
    handle = await fault.inject(ctx)
    async with asyncio.timeout(20):
        await taker.enough.wait()
    receipt = await fault.receipt(ctx, handle)
    await fault.heal(ctx)
    assert receipt.proven
    assert "422" in receipt.facts
    assert set(taker.asked) == {"*a*", "*b*"}
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("storm")]


async def test_a_storm_that_meets_nobody_says_so(session: aiohttp.ClientSession) -> None:
    ctx, fault = Context(FakeRuntime(), session, "http://127.0.0.1:9"), storm("sut", ["*a*"], rate=200)
    handle = await fault.inject(ctx)
    assert handle is not None
    async with asyncio.timeout(20):
        while not handle.statuses[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert "no answer" in (await fault.receipt(ctx, handle)).summary


async def test_no_storm_asks_nothing(shop: tuple[Shop, Context]) -> None:
    taker, ctx = shop
    fault = storm("sut", ["*a*"], rate=0)
    assert (await fault.receipt(ctx, await fault.inject(ctx))).proven
    assert not taker.asked


# --- an index that takes over -----------------------------------------------------------------------------------------


@dataclass
class Engine:
    """As much of a search engine as the lab's set-up asks for: aliases, clones, counts."""

    aliases: dict[str, set[str]] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    refuses: str = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/_alias/{alias}", self.alias)
        app.router.add_get("/{alias}/_count", self.count)
        app.router.add_put("/{index}/_settings", self.acknowledged)
        app.router.add_put("/{index}/_clone/{name}", self.clone)
        app.router.add_get("/_cluster/health/{index}", self.acknowledged)
        app.router.add_post("/_aliases", self.update)
        return app

    async def alias(self, request: web.Request) -> web.Response:
        found = self.aliases.get(request.match_info["alias"], set())
        return web.json_response({name: {} for name in found}, status=200 if found else 404)

    async def count(self, request: web.Request) -> web.Response:
        found = self.aliases.get(request.match_info["alias"], set())
        return web.json_response({"count": sum(self.documents[name] for name in found)}, status=200 if found else 404)

    async def acknowledged(self, request: web.Request) -> web.Response:
        return web.json_response({"acknowledged": True})

    async def clone(self, request: web.Request) -> web.Response:
        if self.refuses:
            return web.json_response({"error": self.refuses}, status=400)
        self.documents[request.match_info["name"]] = self.documents[request.match_info["index"]]
        return web.json_response({"acknowledged": True})

    async def update(self, request: web.Request) -> web.Response:
        for action in json.loads(await request.text())["actions"]:
            ((what, about),) = action.items()
            names = self.aliases.setdefault(about["alias"], set())
            names.add(about["index"]) if what == "add" else names.discard(about["index"])
        return web.json_response({"acknowledged": True})


KEPT = kept_prefix(3)


@pytest.fixture
async def engine(session: aiohttp.ClientSession) -> AsyncIterator[tuple[Engine, Context]]:
    """Holds the kept catalogue of three products, and an empty index of the run."""
    made = Engine(
        {f"{KEPT}products": {f"{KEPT}products-v1-x"}, "lab1_products": {"lab1_products-v1-y"}},
        {f"{KEPT}products-v1-x": 3, "lab1_products-v1-y": 0},
    )
    async for address in serving(made.app()):
        yield made, Context(FakeRuntime(), session, address)


async def test_a_kept_catalogue_is_cloned_and_takes_both_aliases(engine: tuple[Engine, Context]) -> None:
    made, ctx = engine
    said = await cloned_catalogue("engine", ["fill"])(ctx)
    (name,) = made.aliases["lab1_products"]
    assert name.startswith("lab1_products-v1-2")
    assert made.aliases["lab1_products-write"] == {name}
    assert said == f"3 products are in {name}, cloned from those of an earlier run"


async def test_a_clone_that_the_engine_refuses_ends_the_set_up(engine: tuple[Engine, Context]) -> None:
    made, ctx = engine
    made.refuses = "no room"
    with pytest.raises(PrepareFailedError, match="no room"):
        await cloned_catalogue("engine", ["fill"])(ctx)
    with pytest.raises(InjectFailedError, match="no room"):
        await swap("engine").inject(ctx)


async def test_a_catalogue_that_is_not_kept_yet_is_built_under_its_own_prefix(engine: tuple[Engine, Context]) -> None:
    made, ctx = engine
    made.documents[f"{KEPT}products-v1-x"] = 0
    with pytest.raises(PrepareFailedError, match="0 products of 3"):
        await cloned_catalogue("engine", ["fill"])(ctx)
    assert ctx.runtime.envs["fill"]["LAB_PREFIX"] == KEPT


async def test_an_index_that_takes_over_has_a_receipt(engine: tuple[Engine, Context]) -> None:
    made, ctx = engine
    fault = swap("engine")
    before = await behind(ctx, "engine", "lab1_products")
    receipt = await fault.receipt(ctx, await fault.inject(ctx))
    await fault.heal(ctx)
    assert receipt.proven
    assert receipt.facts["before"] == before
    assert made.aliases["lab1_products"] == {receipt.facts["now"]}


async def test_an_alias_that_did_not_move_is_no_receipt(engine: tuple[Engine, Context]) -> None:
    _, ctx = engine
    assert not (await swap("engine").receipt(ctx, ("lab1_products-v1-y", "lab1_products-v1-z"))).proven


async def test_an_alias_of_nothing_or_of_two_is_refused(engine: tuple[Engine, Context]) -> None:
    made, ctx = engine
    with pytest.raises(EngineAnswerError, match="404"):
        await behind(ctx, "engine", "nobodys")
    made.aliases["two"] = {"a", "b"}
    with pytest.raises(EngineAnswerError, match="2 indices"):
        await clone(ctx, "engine", "two", "lab1_")


async def test_a_full_index_is_waited_for(engine: tuple[Engine, Context]) -> None:
    made, ctx = engine
    waiting = asyncio.ensure_future(index_is_full("engine")(ctx))
    await asyncio.sleep(0)
    made.documents["lab1_products-v1-y"] = 3
    async with asyncio.timeout(20):
        assert await waiting == "3 products are in the index"


def test_another_size_or_another_engine_is_another_catalogue() -> None:
    assert len({kept_prefix(3), kept_prefix(4), kept_prefix(3, "c")}) == 3
    assert Path(KEPT).name.startswith("data3x")
