"""Heads that are too long, too slow or no heads at all, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import uvicorn
from fastapi import Request
from starlette.responses import Response
from uvicorn.server import ServerState

from services.kit.connection import MAX_HEAD_BYTES, BoundedProtocol
from services.kit.http import Shell, json_response, service_app
from services.kit.settings import ProcessSettings
from tests.stack import until

GOOD = b"GET /v1/things HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE = 30.0
PROMPT = 60.0
"""Seconds for a head where time is not what is tested."""


@dataclass
class Server:
    """Listens on loopback."""

    port: int
    state: ServerState

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def answer_to(self, *pieces: bytes) -> tuple[int, bytes]:
        """Status and body of what comes until the server closes; 0 if nothing comes."""
        async with self.connected() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
            got = await read_all(reader)
        head, _, body = got.partition(b"\r\n\r\n")
        return (int(head.split()[1]) if head else 0), body


async def read_all(reader: asyncio.StreamReader) -> bytes:
    got = b""
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                got += piece
    return got


async def sent_until_cut(server: Server, start: bytes, piece: bytes) -> int:
    """How many bytes the server and the kernel took in; a hundred heads at most."""
    sent = 0
    async with server.connected() as (reader, writer):
        writer.write(start)
        with suppress(ConnectionError):
            while sent < 100 * MAX_HEAD_BYTES and not reader.at_eof():
                writer.write(piece)
                sent += len(piece)
                await asyncio.wait_for(writer.drain(), PATIENCE)
                await asyncio.sleep(0)
    return sent


async def serving(head_seconds: float) -> AsyncIterator[Server]:
    app = service_app("test", ProcessSettings(http_port=1))

    @app.api_route("/v1/things", methods=["GET", "POST"])
    async def things(request: Request) -> Response:
        return json_response(200, len(await request.body()))

    class Protocol(BoundedProtocol):
        pass

    Protocol.head_seconds = head_seconds
    config = uvicorn.Config(Shell(app, max_body_bytes=1024), http=Protocol, lifespan="off", ws="none", log_config=None)
    config.load()
    state = ServerState()
    made: Any = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield Server(made.sockets[0].getsockname()[1], state)
    finally:
        made.close()
        for connection in list(state.connections):
            connection.transport.abort()

        async def over() -> bool:
            return not state.connections and not state.tasks

        await until(over, what="the end of all connections")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async for made in serving(PROMPT):
        yield made


@pytest.fixture
async def impatient() -> AsyncIterator[Server]:
    """Gives a head half a second."""
    async for made in serving(0.5):
        yield made


def assert_problem(answer: tuple[int, bytes], status: int, code: str) -> None:
    assert answer[0] == status
    found = msgspec.json.decode(answer[1])
    assert (found["type"], found["status"]) == (f"urn:lab:{code}", status)


async def test_requests_are_answered_one_after_the_other_on_one_connection(server: Server) -> None:
    last = GOOD.replace(b"Host", b"Connection: close\r\nHost")
    async with server.connected() as (reader, writer):
        for sent in (GOOD, GOOD[:20], GOOD[20:], GOOD + GOOD + last):
            writer.write(sent)
            await writer.drain()
        assert (await read_all(reader)).count(b"HTTP/1.1 200 OK") == 5


async def test_what_is_not_http_is_told_so(server: Server) -> None:
    assert_problem(await server.answer_to(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, "malformed_http")


async def test_a_whole_head_that_is_too_large_is_refused(server: Server) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 100) for number in range(700))
    assert_problem(await server.answer_to(GOOD[:-2], many, b"\r\n"), 431, "headers_too_large")


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX-", b"GET / HTTP/1.1\r\nHost: "])
async def test_a_head_without_end_is_cut(server: Server, start: bytes) -> None:
    assert await sent_until_cut(server, start, b"x" * 32768) < 100 * MAX_HEAD_BYTES


async def test_headers_without_end_are_cut(server: Server) -> None:
    many = b"X-More: 1234567890\r\n" * 1700
    assert await sent_until_cut(server, b"GET / HTTP/1.1\r\n", many) < 100 * MAX_HEAD_BYTES


async def test_trailers_without_end_are_cut(server: Server) -> None:
    head = b"POST /v1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    assert await sent_until_cut(server, head, b"X-More: 1234567890\r\n" * 1700) < 100 * MAX_HEAD_BYTES


@pytest.mark.slow
async def test_a_head_that_does_not_come_to_its_end_in_time_is_refused(impatient: Server) -> None:
    assert_problem(await impatient.answer_to(GOOD[:-4]), 408, "headers_too_slow")


@pytest.mark.slow
async def test_a_connection_that_says_nothing_is_closed(impatient: Server) -> None:
    assert await impatient.answer_to() == (0, b"")


@pytest.mark.slow
async def test_a_second_head_has_to_come_in_time_too(impatient: Server) -> None:
    async with impatient.connected() as (reader, writer):
        writer.write(GOOD)
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"\r\n\r\n0")
        writer.write(b"\r\nGET")
        assert b" 408 " in await read_all(reader)


@pytest.mark.slow
async def test_the_time_of_a_head_is_not_that_of_a_body(impatient: Server) -> None:
    async with impatient.connected() as (reader, writer):
        writer.write(b"POST /v1/things HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n")
        for byte in b"abc":
            await asyncio.sleep(0.3)  # two of them are longer than a head may take
            writer.write(bytes([byte]))
        assert (await read_all(reader)).endswith(b"\r\n\r\n3")
