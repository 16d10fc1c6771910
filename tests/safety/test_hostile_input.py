"""What no honest client sends, to every service over a bare socket: refused with a problem or cut off, and all is well afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import msgspec
import psutil
import pytest

from services.kit.connection import HEAD_SECONDS
from services.kit.http import BODY_SECONDS
from tests.safety.apps import APPS, Route
from tests.safety.city import Edge, fresh
from tests.safety.hostile import CASES, CHUNKED, Case, Target, chunked, request
from tests.safety.samples import body_for
from tests.stack import client

pytestmark = pytest.mark.integration

ANSWER_SECONDS = 60.0
CLOSED = 0
LATE = 504
"""Where requests have deadlines, one whose time is over is answered so, also one whose body is still on its way."""
GROWTH_BYTES = 100 << 20
"""What one process may keep of it all; a request's body is 64 KiB, its head too."""
SLOW_MARGIN_SECONDS = 60.0
ROUTES = {
    "payments": (Route("/v1/payments", "POST"), "/v1/payments?limit=1"),
    "checkout": (Route("/v1/checkouts", "POST"), "/v1/checkouts/chk_01m81f965se1srvd1y9nsseadm"),
    "webhooks": (Route("/v1/messages", "POST"), "/v1/messages?limit=1"),
    "cron": (Route("/v1/jobs", "POST"), "/v1/jobs?limit=1"),
    "catalog": (Route("/v1/products", "POST"), "/v1/products?limit=1"),
    "search": (Route("/v1/clicks", "POST"), "/v1/search?q=lamp"),
}
"""Of each service a route that reads a body, and a path with a query."""


def target_of(edge: Edge) -> Target:
    """A good request, new each time."""
    route, listing = ROUTES[edge.service]
    data, headers = body_for(edge.service, route, edge.mine.owns, f"n{fresh()}")
    assert data is not None
    sent = {**headers, **edge.mine.headers, "Idempotency-Key": fresh()}
    if edge.service == "search":
        del sent["Authorization"]
    heads = tuple((name.encode(), value.encode()) for name, value in sent.items())
    return Target(route.path.encode(), heads, data, listing.encode())


@dataclass(frozen=True)
class Reply:
    """What came before the connection ended; status 0 if nothing did."""

    status: int
    head: bytes = b""
    body: bytes = b""


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def reply_of(reader: asyncio.StreamReader) -> Reply:
    """The first whole answer, or what came until the server closed. Raises TimeoutError."""
    got = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            got += piece
            if (found := parsed(got)) is not None:
                return found
    return parsed(got) or (Reply(CLOSED) if not got.startswith(b"HTTP/1.1 ") else Reply(int(got[9:12]), got))


def parsed(got: bytes) -> Reply | None:
    """A whole answer, None while some of it is missing."""
    head, separator, body = got.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1.1 "):
        return None
    if head[9:12] == b"100":
        return parsed(body)
    lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    if lengths and len(body) < int(lengths[0]):
        return None
    return Reply(int(head[9:12]), head, body)


async def sent(port: int, data: bytes) -> Reply:
    """Writes while it reads: whoever refuses early does not wait for the rest."""
    async with asyncio.timeout(ANSWER_SECONDS), connected(port) as (reader, writer):
        answer = asyncio.ensure_future(reply_of(reader))
        writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()
        return await answer


def fault_of(case: Case, reply: Reply) -> str | None:
    """What is wrong with an answer, None if it is as it should be."""
    if reply.status == CLOSED:
        return None
    if reply.status >= 500 and not (case.late and reply.status == LATE):
        return f"{case.name}: {reply.status} {reply.body[:200]!r}"
    if reply.status < 400:
        return None if case.harmless else f"{case.name}: was taken, {reply.status} {reply.body[:100]!r}"
    if b"content-type: application/problem+json" not in reply.head.lower():
        return f"{case.name}: {reply.status} is no problem document: {reply.head[:300]!r}"
    try:
        problem = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        return f"{case.name}: {reply.status} with a body that is no JSON"
    if problem.get("status") != reply.status or not str(problem.get("type", "")).startswith("urn:lab:"):
        return f"{case.name}: {problem}"
    return None


async def still_answers(edge: Edge) -> None:
    """A good request is taken, and the process says that it is ready."""
    async with client() as session, session.get(f"{edge.process.url}/health/ready") as answer:
        assert answer.status == 200
    good = await sent(edge.process.port, request(target_of(edge)))
    assert good.status in (200, 201, 202), good


@pytest.mark.parametrize("service", APPS)
async def test_hostile_input_is_refused_and_changes_nothing_for_others(edge: Edge) -> None:
    await still_answers(edge)
    before = psutil.Process(edge.process.popen.pid).memory_info().rss
    faults = []
    for case in CASES:
        try:
            faults.append(fault_of(case, await sent(edge.process.port, case.make(target_of(edge)))))
        except TimeoutError:
            faults.append(f"{case.name}: no answer and no end")
        assert edge.process.popen.poll() is None, f"{case.name} ended the process"
    assert [fault for fault in faults if fault is not None] == []
    await still_answers(edge)
    assert psutil.Process(edge.process.popen.pid).memory_info().rss < before + GROWTH_BYTES
    assert "unhandled error" not in edge.process.log.read_text()


# --- slow clients ---------------------------------------------------------------------------------------------------

HALF_BODY = b'{"a'
SLOW: dict[str, Callable[[Target], bytes]] = {
    "says nothing": lambda _: b"",
    "half a request line": lambda _: b"GET /v1",
    "half a head": lambda target: b"GET " + target.listing + b" HTTP/1.1\r\nHost: x\r\nX-Half: ",
    "a body that stops": lambda target: request(
        target, headers=[(b"Content-Length", b"9")], body=HALF_BODY, framed=False
    ),
    "chunks that stop": lambda target: request(
        target, headers=[CHUNKED], body=chunked(HALF_BODY, 1)[:-5], framed=False
    ),
}


async def test_clients_that_stop_half_way_are_not_waited_for_without_end(edges: list[Edge]) -> None:
    started = asyncio.get_running_loop().time()
    cases = [(edge, name, make(target_of(edge))) for edge in edges for name, make in SLOW.items()]
    replies = await asyncio.gather(*(slow(edge.process.port, data) for edge, _, data in cases))
    wrong = [
        f"{edge.service} {name}: {reply}"
        for (edge, name, _), reply in zip(cases, replies, strict=True)
        if reply is None or reply.status not in (CLOSED, 408, LATE)
    ]
    assert wrong == []
    # They waited in turn for nobody: all of them at once took as long as the longest.
    assert asyncio.get_running_loop().time() - started < max(HEAD_SECONDS, BODY_SECONDS) + SLOW_MARGIN_SECONDS
    for edge in edges:
        await still_answers(edge)


async def slow(port: int, data: bytes) -> Reply | None:
    """What a client is told that stops after these bytes; None if nobody ends it."""
    try:
        async with asyncio.timeout(max(HEAD_SECONDS, BODY_SECONDS) + SLOW_MARGIN_SECONDS):
            async with connected(port) as (reader, writer):
                writer.write(data)
                await writer.drain()
                return await reply_of(reader)
    except TimeoutError:
        return None


# --- the judge finds what it looks for ------------------------------------------------------------------------------

PROBLEM = b'{"type":"urn:lab:x","title":"No","status":400}'
HEAD = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json"
REFUSED = Case("planted", lambda _: b"")


def test_a_problem_and_a_closed_connection_are_let_pass() -> None:
    assert fault_of(REFUSED, Reply(400, HEAD, PROBLEM)) is None
    assert fault_of(REFUSED, Reply(CLOSED)) is None
    assert fault_of(Case("odd", lambda _: b"", harmless=True), Reply(200)) is None
    late = PROBLEM.replace(b"400", b"504")
    assert fault_of(Case("late", lambda _: b"", late=True), Reply(LATE, HEAD, late)) is None
    assert fault_of(REFUSED, Reply(LATE, HEAD, late)) is not None


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, HEAD, PROBLEM),
        Reply(200, b"HTTP/1.1 200 OK", b"{}"),
        Reply(400, b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain", b"Bad"),
        Reply(400, HEAD, b"not json"),
        Reply(400, HEAD, b'{"status":400}'),
        Reply(404, HEAD, PROBLEM),
    ],
)
def test_any_other_answer_is_found(reply: Reply) -> None:
    assert fault_of(REFUSED, reply) is not None


@dataclass
class Hanging:
    """A server that takes everything and answers nothing."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()


async def test_a_server_that_waits_without_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "SLOW_MARGIN_SECONDS"):
        monkeypatch.setitem(globals(), name, 0.05)
    async with await asyncio.start_server(Hanging(), "127.0.0.1", 0) as server:
        assert await slow(server.sockets[0].getsockname()[1], b"GET") is None


async def test_an_answer_is_read_though_the_client_has_not_sent_all() -> None:
    async def early(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\ncontent-length: %d\r\n\r\n" % len(PROBLEM) + PROBLEM)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(early, "127.0.0.1", 0) as server:
        reply = await sent(server.sockets[0].getsockname()[1], b"x" * 1000)
    assert reply in (Reply(CLOSED), Reply(400, HEAD + b"\r\ncontent-length: %d" % len(PROBLEM), PROBLEM))
