"""The engine's answers, and their absence, as values and errors of ours; on a node that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from services.kit import deadline
from services.patterns.deadline import Deadline
from services.search.engine import (
    Conflict,
    Engine,
    EngineBusy,
    EngineDown,
    EngineRefused,
    Fate,
    NotThere,
    Write,
    Written,
)

FOUND = {
    "took": 3,
    "timed_out": False,
    "_shards": {"total": 2, "successful": 1, "failed": 1},
    "hits": {"hits": [{"_id": "1", "_index": "i", "_score": 1.5, "_source": {"a": 1}, "sort": [1.5, "1"]}]},
}


@dataclass
class Node:
    """Answers everything with `status` and `body`, after `delay` seconds."""

    status: int = 200
    body: Any = None
    raw: bytes | None = None
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        await request.read()
        await asyncio.sleep(self.delay)
        if self.raw is not None:
            return web.Response(status=self.status, body=self.raw, content_type="application/json")
        return web.json_response(self.body, status=self.status)


@asynccontextmanager
async def node(**how: Any) -> AsyncIterator[Node]:
    made = Node(**how)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


def error(kind: str, reason: str = "because", **more: Any) -> dict[str, Any]:
    return {"error": {"type": kind, "reason": reason, **more}, "status": 400}


async def test_a_partial_answer_says_so() -> None:
    async with node(body=FOUND) as there, Engine([there.url]) as engine:
        found = await engine.search("i", {"query": {"match_all": {}}})
        assert found.partial
        assert (found.hits.hits[0].id, found.hits.hits[0].sort, found.hits.total) == ("1", [1.5, "1"], None)
        assert there.asked[0].startswith("POST /i/_search?timeout=")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, error("es_rejected_execution_exception"), EngineBusy),
        (429, error("circuit_breaking_exception"), EngineBusy),
        (503, error("circuit_breaking_exception"), EngineBusy),
        (404, error("index_not_found_exception"), NotThere),
        (409, error("version_conflict_engine_exception"), Conflict),
        (400, error("resource_already_exists_exception"), Conflict),
        (400, error("parsing_exception"), EngineRefused),
        (413, error("content_too_long"), EngineRefused),
        (401, error("security_exception"), EngineDown),
        (403, error("cluster_block_exception"), EngineDown),
        (400, error("index_closed_exception"), EngineDown),
        (500, error("null_pointer_exception"), EngineDown),
        (503, error("cluster_manager_not_discovered_exception"), EngineDown),
        (502, "Bad gateway", EngineDown),
        (400, "Bad request", EngineRefused),
        (503, {"error": "text"}, EngineDown),
        (503, [], EngineDown),
    ],
)
async def test_each_refusal_is_an_error_of_ours(status: int, body: Any, kind: type[Exception]) -> None:
    async with node(status=status, body=body) as there, Engine([there.url]) as engine:
        with pytest.raises(kind) as raised:
            await engine.count("i")
        assert type(raised.value) is kind


async def test_a_refusal_tells_the_innermost_cause_and_no_more_than_a_line_of_it() -> None:
    caused = {"caused_by": {"type": "x", "reason": "for input: " + "y" * 5000}}
    body = error(
        "search_phase_execution_exception", root_cause=[{"type": "query_shard_exception", "reason": "no", **caused}]
    )
    async with node(status=400, body=body) as there, Engine([there.url]) as engine:
        with pytest.raises(EngineRefused, match="no: for input") as raised:
            await engine.count("i")
        assert raised.value.kind == "query_shard_exception"
        assert len(raised.value.reason) == 300


@pytest.mark.parametrize("raw", [b"", b"\x00", b"<html>", b"{", b'{"count":', b"[]", b"3"])
async def test_an_answer_that_is_no_json_is_no_answer(raw: bytes) -> None:
    async with node(raw=raw) as there, Engine([there.url]) as engine:
        with pytest.raises(EngineDown):
            await engine.count("i")


async def test_a_node_that_is_silent_is_given_up_after_its_time_and_another_one_asked() -> None:
    async with (
        node(body={"count": 1}, delay=30) as silent,
        node(body={"count": 2}) as well,
        Engine([silent.url, well.url], timeout=10, attempt=0.2) as engine,
    ):
        assert [await engine.count("i") for _ in range(4)] == [2] * 4


@pytest.mark.parametrize("status", [502, 503])
async def test_a_node_that_cannot_serve_is_passed_over(status: int) -> None:
    async with (
        node(status=status, body=error("not_ready")) as ill,
        node(body={"count": 2}) as well,
        Engine([ill.url, well.url]) as engine,
    ):
        assert [await engine.count("i") for _ in range(4)] == [2] * 4


@pytest.mark.slow
async def test_when_no_node_answers_the_engine_is_down_within_its_time() -> None:
    async with node(delay=30) as silent, Engine([silent.url, silent.url, silent.url], timeout=0.3) as engine:
        with pytest.raises(EngineDown):
            await asyncio.wait_for(engine.count("i"), 20)


async def test_a_callers_deadline_ends_the_call() -> None:
    async with node(delay=30) as silent, Engine([silent.url], timeout=20) as engine:
        with deadline.bound(Deadline.after(0.1)), pytest.raises(deadline.DeadlineOver):
            await asyncio.wait_for(engine.count("i"), 20)
        with deadline.bound(Deadline.after(0)), pytest.raises(deadline.DeadlineOver):
            await engine.count("i")
        assert len(silent.asked) == 1


async def test_the_engine_is_told_how_long_a_search_may_take() -> None:
    async with node(body=FOUND) as there, Engine([there.url], timeout=20) as engine:
        with deadline.bound(Deadline.after(2)):
            await engine.search("i", {})
        milliseconds = int(there.asked[0].partition("timeout=")[2].removesuffix("ms"))
        assert 0 < milliseconds <= 2000


def item(status: int, kind: str = "", action: str = "index") -> dict[str, Any]:
    made: dict[str, Any] = {"_index": "i", "_id": "1", "status": status}
    return {action: made | ({"error": {"type": kind, "reason": "because"}} if kind else {})}


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (item(201), Fate.DONE),
        (item(200), Fate.DONE),
        (item(404, action="delete"), Fate.DONE),
        (item(409, "version_conflict_engine_exception"), Fate.NEWER_THERE),
        (item(429, "es_rejected_execution_exception"), Fate.BUSY),
        (item(404, "index_not_found_exception"), Fate.NO_INDEX),
        (item(400, "mapper_parsing_exception"), Fate.REFUSED),
        (item(400, "strict_dynamic_mapping_exception"), Fate.REFUSED),
        (item(403, "cluster_block_exception"), Fate.FAILED),
        (item(403, "security_exception"), Fate.FAILED),
        (item(400, "index_closed_exception"), Fate.FAILED),
        (item(503, "unavailable_shards_exception"), Fate.FAILED),
        (item(500, "null_pointer_exception"), Fate.FAILED),
    ],
)
async def test_each_write_has_its_own_fate(answer: dict[str, Any], fate: Fate) -> None:
    async with node(body={"took": 1, "errors": True, "items": [answer]}) as there, Engine([there.url]) as engine:
        (written,) = await engine.bulk([Write("i", "1", 5, b"{}")])
        assert written == Written("i", "1", fate, written.kind, written.reason)


async def test_nothing_to_write_is_not_sent() -> None:
    async with node() as there, Engine([there.url]) as engine:
        assert await engine.bulk([]) == []
        assert await engine.mget("i", []) == []
        assert there.asked == []


def test_writes_are_lines() -> None:
    assert Write("i", "1", 5, b'{"a":1}').lines() == (
        b'{"index":{"_index":"i","_id":"1","version":5,"version_type":"external_gte"}}\n{"a":1}\n'
    )
    assert Write("i", "1", 5, None).lines().startswith(b'{"delete":')


async def test_aliases_that_not_every_node_knows_are_not_certain() -> None:
    async with node(body={"acknowledged": False}) as there, Engine([there.url]) as engine:
        with pytest.raises(EngineDown, match="Not every node"):
            await engine.update_aliases([])


async def test_a_status_waited_for_in_vain_is_told_as_it_is() -> None:
    body = {"cluster_name": "c", "status": "red", "number_of_nodes": 1, "timed_out": True}
    async with node(status=408, body=body) as there, Engine([there.url]) as engine:
        assert (await engine.health("i", wait_for="yellow")).status == "red"
        assert not await engine.answers("i")
        assert there.asked[-1] == "GET /_cluster/health/i", "what else the cluster holds is not asked"


async def test_names_in_a_path_are_quoted() -> None:
    async with node(body={"count": 1}) as there, Engine([there.url]) as engine:
        await engine.count("a/../b?c")
        assert there.asked == ["POST /a%2F..%2Fb%3Fc/_count"]


def test_an_engine_without_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="one node at least"):
        Engine([])
