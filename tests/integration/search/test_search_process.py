"""The API as a process: started by its role, asked over HTTP, stopped politely; and its engine killed under it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import pytest

from infra.native.free_ports import free_ports
from tests.integration.search.live import Catalogue, product
from tests.servers import ROOT, SearchServer, throwaway_search
from tests.stack import Process, client, launch, until

pytestmark = pytest.mark.integration


@dataclass
class Running:
    """The process and the index below it."""

    catalogue: Catalogue
    process: Process
    settings: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> tuple[int, Mapping[str, str], Any]:
        async with client() as session, session.get(f"{self.process.url}{path}", headers=headers) as answer:
            body = await answer.read()
            return answer.status, answer.headers, msgspec.json.decode(body) if body[:1] == b"{" else body


async def started(catalogue: Catalogue, tmp_path: Any, **settings: str) -> Running:
    (port,) = free_ports(1)
    environment = {
        "PYTHONPATH": str(ROOT), "HTTP_PORT": str(port), "LAB_PREFIX": catalogue.prefix,
        "SEARCH_ENGINE_URLS": catalogue.server.url, "SEARCH_CURSOR_KEY": "a-key-for-tests-only",
        # An engine that has just started may need more than a second for its first answers.
        "SEARCH_DEADLINE_SECONDS": "30", "SEARCH_DEADLINE_LIMIT_SECONDS": "30", **settings,
    }  # fmt: skip
    log = tmp_path / "api.log"
    process = Process("api", port, launch(["services.search", "api"], environment, log), log)

    async def ready() -> bool:
        assert process.popen.poll() is None, log.read_text()[-3000:]
        try:
            async with client() as session, session.get(f"{process.url}/health/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await until(ready, within=60, what="search-api ready")
    return Running(catalogue, process, dict(settings))


@pytest.fixture
async def running(search_server: SearchServer, tmp_path: Any) -> AsyncIterator[Running]:
    catalogue = Catalogue(search_server)
    await catalogue.fill([product(number, f"Nord lamp {number}", popularity=number) for number in range(1, 40)])
    made = await started(catalogue, tmp_path)
    try:
        yield made
    finally:
        made.process.kill()


async def test_it_answers_counts_what_it_does_and_ends_cleanly(running: Running) -> None:
    status, headers, found = await running.get("/v1/search?q=lamp")
    assert (status, headers["X-Cache"], found["total"]["value"]) == (200, "miss", 39)
    assert (await running.get("/v1/search?q=lamp"))[1]["X-Cache"] == "hit"
    status, headers, page = await running.get("/?q=lamp")
    assert status == 200
    assert b"39 products" in page
    _, _, metrics = await running.get("/metrics")
    assert b'search_cache_lookups_total{kind="results",result="hit"} 1.0' in metrics
    assert b'search_stage_seconds_count{stage="hits"}' in metrics
    assert running.process.terminate() == 0


async def test_bytes_that_are_no_text_are_answered(running: Running) -> None:
    paths = (
        b"/v1/search?q=\x80\xff&\xfe=1",
        b"/?q=\x80",
        b"/v1/suggest?q=%ff%00",
        b"/v1/search?%",
        b"/v1/search?q=%80",
    )
    for path in paths:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.process.port)
        try:
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()
            await writer.wait_closed()
        assert answer.split(b" ")[1] in (b"200", b"400", b"422"), answer


async def test_default_secrets_are_refused_outside_the_lab(search_server: SearchServer, tmp_path: Any) -> None:
    log = tmp_path / "refused.log"
    environment = {
        "PYTHONPATH": str(ROOT), "HTTP_PORT": str(free_ports(1)[0]), "SEARCH_ENGINE_URLS": search_server.url,
        "SEARCH_CURSOR_KEY": "lab-only-search-cursor-key",
    }  # fmt: skip
    run = launch(["services.search", "api"], environment, log)
    assert await asyncio.to_thread(run.wait, 60) == 1
    assert "SEARCH_CURSOR_KEY" in log.read_text()


@pytest.mark.slow
async def test_a_killed_engine_costs_freshness_and_no_answer(tmp_path: Any) -> None:
    with throwaway_search() as server:
        catalogue = Catalogue(server)
        await catalogue.fill([product(number, f"Nord lamp {number}", popularity=number) for number in range(1, 40)])
        running = await started(catalogue, tmp_path, SEARCH_CACHE_SECONDS="0.5", SEARCH_CACHE_JITTER="0")
        try:

            async def popular_known() -> bool:
                return bool((await running.get("/v1/suggest"))[2]["suggestions"])

            await until(popular_known)
            assert (await running.get("/v1/search?q=lamp&facets=none"))[2]["degraded"] == []
            server.life.kill()

            async def degraded() -> list[str]:
                status, _, found = await running.get("/v1/search?q=lamp&facets=none")
                assert status == 200
                return list(found["degraded"])

            assert await until(degraded) == ["cached"]
            status, _, other = await running.get("/v1/search?q=desk&facets=none")
            assert (status, other["degraded"], other["matching"]) == (200, ["popular"], "popular")
            assert (await running.get("/health/ready"))[0] == 200
            server.life.start()

            async def whole_again() -> bool:
                return bool((await running.get("/v1/search?q=lamp&facets=none"))[2]["degraded"] == [])

            await until(whole_again, within=60)
        finally:
            running.process.kill()
