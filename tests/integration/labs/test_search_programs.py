"""The small programs of days 3 and 5 of week 7 before a real engine: the naive search, its cache, the writer of documents."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from labs.engine.cleanup import drop_indices, new_prefix
from services.search import mappings
from tests.integration.labs.program import running
from tests.servers import SearchServer

pytestmark = [pytest.mark.integration]

SILENT = "http://127.0.0.1:9"


@dataclass
class Index:
    """An index of the run, empty at first."""

    url: str
    prefix: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, url: str, body: object = None) -> tuple[int, dict[str, object]]:
        async with self.session.request(method, url, json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def engine(self, method: str, path: str, body: object = None) -> dict[str, object]:
        status, found = await self.ask(method, f"{self.url}/{path}", body)
        assert status in (200, 201), found
        return found

    async def make(self, number: int) -> str:
        name = f"{self.prefix}products-v1-{number:08d}t000000000"
        await self.engine("PUT", name, mappings.load().body)
        return name

    async def searched(self, name: str) -> int:
        found = await self.engine("GET", f"{name}/_stats/search?filter_path=_all.total.search.query_total")
        return int(found["_all"]["total"]["search"]["query_total"])  # type: ignore[index]  # the engine's own form


@pytest.fixture
async def index(search_server: SearchServer) -> AsyncIterator[Index]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        made = Index(search_server.url, new_prefix(), session)
        name = await made.make(1)
        await made.engine(
            "POST", "_aliases", {"actions": [{"add": {"index": name, "alias": f"{made.prefix}products"}}]}
        )
        yield made
        host, _, port = search_server.url.removeprefix("http://").partition(":")
        assert await drop_indices(session, [(host, int(port))], made.prefix, None) == ""


async def test_the_naive_search_finds_what_it_was_given_and_keeps_the_newest_version(index: Index) -> None:
    with running("labs.week07.naive_search", LAB_PREFIX=index.prefix, NAIVE_ENGINE_URL=index.url) as naive:
        document = f"{naive}/v1/documents/00000000-0000-7000-8000-00000000000a"
        assert (await index.ask("PUT", document, {"version": 5, "title": "blue boots"}))[0] == 200
        assert (await index.ask("PUT", document, {"version": 4, "title": "old boots"}))[0] == 502
        await index.engine("POST", f"{index.prefix}products/_refresh")
        for text in ("blue", "*oot*"):
            status, found = await index.ask("GET", f"{naive}/v1/search?q={text}")
            assert (status, len(found["hits"])) == (200, 1)  # type: ignore[arg-type]  # a list


async def test_the_first_cache_answers_from_memory_until_another_index_takes_over(index: Index) -> None:
    first, second = f"{index.prefix}products-v1-00000001t000000000", await index.make(2)
    environment = {"LAB_PREFIX": index.prefix, "NAIVE_ENGINE_URL": index.url, "NAIVE_CACHE_SECONDS": "600"}
    with running("labs.week07.naive_search", **environment) as naive:
        for _ in range(5):
            await index.ask("GET", f"{naive}/v1/search?q=boots")
        assert await index.searched(first) == 1
        alias = f"{index.prefix}products"
        actions = [{"remove": {"index": first, "alias": alias}}, {"add": {"index": second, "alias": alias}}]
        await index.engine("POST", "_aliases", {"actions": actions})
        deadline = time.monotonic() + 30
        while not await index.searched(second):
            assert time.monotonic() < deadline
            await index.ask("GET", f"{naive}/v1/search?q=boots")


async def test_a_naive_search_whose_node_is_away_fails(index: Index) -> None:
    with running("labs.week07.naive_search", LAB_PREFIX=index.prefix, NAIVE_ENGINE_URL=SILENT) as naive:
        assert (await index.ask("GET", f"{naive}/v1/search?q=boots"))[0] == 502


async def test_a_document_is_acknowledged_when_any_node_has_taken_it(index: Index) -> None:
    nodes = f"{SILENT},{index.url}"
    with running("labs.week07.document_writer", LAB_PREFIX=index.prefix, WRITER_ENGINE_URLS=nodes) as writer:
        identifier = "00000000-0000-7000-8000-00000000000b"
        document = f"{writer}/v1/documents/{identifier}"
        assert (await index.ask("PUT", document, {"version": 7, "title": "one"}))[0] == 200
        assert (await index.ask("PUT", document, {"version": 6, "title": "older"}))[0] == 200
        assert (await index.ask("PUT", document, {"version": "7"}))[0] == 422
        found = await index.engine("GET", f"{index.prefix}products/_doc/{identifier}")
        assert (found["_version"], found["_source"]) == (7, {"id": identifier, "title": "one"})


async def test_a_document_that_no_node_has_taken_is_not_acknowledged(index: Index) -> None:
    with running("labs.week07.document_writer", LAB_PREFIX=index.prefix, WRITER_ENGINE_URLS=SILENT) as writer:
        assert (await index.ask("PUT", f"{writer}/v1/documents/x", {"version": 1, "title": "one"}))[0] == 503
