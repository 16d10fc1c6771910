"""Servers are asked for their versions; one that is silent, garbled or never tells does not stop a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from infra.runtime import Runtime
from labs.engine.servers import ASK, versions
from tests.labs.fake_world import PORTS, FakeRuntime


def runtime() -> Runtime:
    return FakeRuntime()


@asynccontextmanager
async def answering(monkeypatch: pytest.MonkeyPatch, **answers: str) -> AsyncIterator[None]:
    """Toxiproxy's and Prometheus' pages, each at a free port."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=answers["toxiproxy" if request.path == "/version" else "prometheus"])

    app = web.Application()
    app.router.add_get("/version", answer)
    app.router.add_get("/api/v1/status/buildinfo", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = int(runner.addresses[0][1])
    for name in ("toxiproxy", "prometheus"):
        monkeypatch.setitem(PORTS, name, port)
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("page", "version"), [('{"version":"2.12.0"}', "2.12.0"), ("2.7.0\n", "2.7.0")])
async def test_toxiproxy_and_prometheus_tell_over_http(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str, version: str
) -> None:
    build = '{"status":"success","data":{"version":"3.5.0"}}'
    async with answering(monkeypatch, toxiproxy=page, prometheus=build), aiohttp.ClientSession() as session:
        found = await versions(runtime(), session, ("toxiproxy", "prometheus"), tmp_path)
    assert found == {"toxiproxy": version, "prometheus": "3.5.0"}


async def test_an_answer_that_is_none_leaves_the_tag_of_the_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docker-compose.yml").write_text("services: {prometheus: {image: 'prom/prometheus:v3.5.0'}}")
    async with answering(monkeypatch, toxiproxy="x", prometheus='{"data":{}}'), aiohttp.ClientSession() as session:
        found = await versions(runtime(), session, ("prometheus",), tmp_path)
    assert found == {"prometheus": "v3.5.0 (of the image)"}


async def test_redis_tells_over_its_own_protocol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"INFO server\r\n"
        text = b"# Server\r\nredis_version:7.0.15\r\nos:Linux\r\n"
        writer.write(b"$%d\r\n%b\r\n" % (len(text), text))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    monkeypatch.setitem(PORTS, "redis", server.sockets[0].getsockname()[1])
    async with server, aiohttp.ClientSession() as session:
        found = await versions(runtime(), session, ("redis",), tmp_path)
    assert found == {"redis": "7.0.15"}


async def test_a_server_that_hangs_up_or_is_not_there_is_not_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    monkeypatch.setitem(PORTS, "redis", server.sockets[0].getsockname()[1])
    async with server, aiohttp.ClientSession() as session:
        hung_up = await versions(runtime(), session, ("redis",), tmp_path)
    async with aiohttp.ClientSession() as session:
        gone = await versions(runtime(), session, ("redis", "kafka"), tmp_path)
    assert hung_up == {"redis": "not told"}
    assert gone == {"redis": "not told", "kafka": "not told"}
    assert set(ASK) == {"postgres", "redis", "toxiproxy", "prometheus"}
