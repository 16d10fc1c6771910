"""Receivers on raw sockets, whose answers no HTTP server would give."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import aiohttp
import pytest

from services.kit import ssrf
from services.webhooks.answer import install
from services.webhooks.domain import AttemptOutcome, Result
from services.webhooks.keys import Key, Keyring
from services.webhooks.sender import Sender
from services.webhooks.signing import Secret
from services.webhooks.store import Claim

OK = b"HTTP/1.1 200 OK\r\n"
ENDPOINT = UUID(int=1)
RING = Keyring("x" * 32)

BROKEN_BODIES = {
    "half a body": OK + b"Content-Length: 1000\r\n\r\nthank y",
    "a bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nthank you",
    "a chunk that is longer than it says": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nthank you\r\n0\r\n\r\n",
    "more than its length": OK + b"Content-Length: 2\r\n\r\nthank you",
    "a length that is no number": OK + b"Content-Length: many\r\n\r\nok",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a negative length": OK + b"Content-Length: -1\r\n\r\nok",
    "a header without an end": OK + b"Content-Le",
    "a header that is none": OK + b"\x00\x01\r\n\r\n",
    "bytes that are no gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
    "an informational answer first": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + OK
    + b"Transfer-Encoding: chunked\r\n\r\n?",
}


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def answering(*segments: bytes, then_reset: bool = True) -> AsyncIterator[str]:
    """A receiver that writes these segments to whoever has sent a request, and breaks the connection or closes it."""
    seen = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
        for number, segment in enumerate(segments):
            if number:
                await asyncio.sleep(0.02)
            writer.write(segment)
        if then_reset:
            reset(writer)
        else:
            writer.close()
        seen.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await asyncio.wait_for(seen.wait(), 10)


async def attempt(*segments: bytes, then_reset: bool = True) -> Result:
    """One attempt at such a receiver."""
    secrets = RING.seal(ENDPOINT, [Key(Secret(b"k" * 32).text())])
    now = datetime.now(UTC)
    async with (
        answering(*segments, then_reset=then_reset) as url,
        Sender(ssrf.Policy(lab_profile=True, allow_loopback=True), RING, timeout=5) as sender,
    ):
        claim = Claim(UUID(int=2), UUID(int=3), UUID(int=4), ENDPOINT, "app_x", 0, 0, False, "e", "t", b"{}", False, None, now, url, secrets, None)  # fmt: skip
        return await sender.attempt(claim, now.timestamp())


@pytest.mark.parametrize("answer", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
@pytest.mark.parametrize("then_reset", [True, False], ids=["reset", "closed"])
async def test_a_2xx_status_line_is_a_success_whatever_comes_after_it_in_the_same_segment(
    answer: bytes, then_reset: bool
) -> None:
    result = await attempt(answer, then_reset=then_reset)
    assert (result.outcome, result.status) == (AttemptOutcome.DELIVERED, 200)


@pytest.mark.parametrize(
    "segments",
    [
        (OK + b"Transfer-Encoding: chunked\r\n\r", b"\nzz\r\nxx"),
        (b"HTTP/1.", b"1 200 OK\r\nContent-Le", b"ngth: 5\r\n\r\nok"),
        (OK + b"A: b\r\n", b"\r\n", b"garbage"),
    ],
)
async def test_the_head_may_come_in_pieces(segments: Sequence[bytes]) -> None:
    result = await attempt(*segments)
    assert (result.outcome, result.status) == (AttemptOutcome.DELIVERED, 200)


async def test_what_came_of_the_body_is_kept() -> None:
    assert (await attempt(OK + b"Content-Length: 2\r\n\r\nokay, and more")).body == b"ok"


async def test_another_status_is_a_refusal_even_if_its_head_breaks_off() -> None:
    result = await attempt(b"HTTP/1.1 503 Service Unavailable\r\nRetry-")
    assert (result.outcome, result.status) == (AttemptOutcome.REFUSED, 503)


async def test_retry_after_is_seen_before_a_broken_body() -> None:
    result = await attempt(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n?")
    assert (result.status, result.retry_after) == (429, "7")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"\x16\x03\x01",
        b"200 OK\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n",
    ],
)
async def test_what_is_no_whole_status_line_of_an_answer_is_none(answer: bytes) -> None:
    result = await attempt(answer)
    assert (result.outcome, result.status) == (AttemptOutcome.UNREACHABLE, None)


async def test_a_connection_whose_answers_are_whole_is_used_again() -> None:
    requests: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                requests.append(writer)
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")
        except asyncio.IncompleteReadError:
            writer.close()

    connector = aiohttp.TCPConnector()
    install(connector)
    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        port = server.sockets[0].getsockname()[1]
        for _ in range(3):
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                assert await response.read() == b"ok"
    assert len(requests) == 3
    assert len(set(requests)) == 1


async def test_the_bug_is_seen_without_it() -> None:
    async with answering(BROKEN_BODIES["a bad chunk"]) as url, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.post(url, data=b"x")
