"""The receivers themselves: `POST /r/<number>`, in one asyncio protocol.

Not an application of the kit: a thousand receivers share a machine with the sender that is measured, and some of them have
to do what a server library prevents, like breaking a connection in the middle of an answer.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import cast

import httptools
import msgspec

from services.kit import tracing
from services.kit.clock import Clock
from services.simulators.receivers import metrics
from services.simulators.receivers.behaviours import WELL, Behaviour, Lasting, RateLimited, Switchboard
from services.simulators.receivers.recorder import Line, Records
from services.simulators.receivers.signature import Verifier

MAX_BODY_BYTES = 512 * 1024
MAX_HEADERS = 100
IDLE_SECONDS = 60.0
LIE_SECONDS = 0.02
"""Between a lying receiver's status line and its reset, so that the line is seen."""
DRIP_SECONDS = 0.05

_PATH = re.compile(rb"/r/([0-9]{1,6})(/elsewhere)?")
_WANTED = frozenset({b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"traceparent"})
_CODES: Mapping[str, int] = {"flapping": 503, "gone": 410, "rate_limited": 429, "failing": 500, "redirect": 307}
_SILENT = frozenset({"dead", "hang"})


class _Data(msgspec.Struct, frozen=True):
    event_id: str | None = None


class _Event(msgspec.Struct, frozen=True):
    id: str | None = None
    event_id: str | None = None
    data: _Data = _Data()


_EVENT = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class World:
    """What all connections share."""

    recorder: Records
    switches: Switchboard
    verifier: Verifier
    clock: Clock
    count: int
    open: set[HookProtocol]


def event_of(body: bytes) -> str | None:
    """`event_id` of the body or of its `data`, or else the body's `id`; None if it has none."""
    try:
        event = _EVENT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event.event_id or event.data.event_id or event.id


def plain(status: int, headers: bytes = b"", *, close: bool = False) -> bytes:
    """An answer without a body."""
    last = b"Connection: close\r\n" if close else b""
    return b"HTTP/1.1 %d %s\r\nContent-Length: 0\r\n%s%s\r\n" % (
        status,
        HTTPStatus(status).phrase.encode(),
        headers,
        last,
    )


OK = plain(200)


class HookProtocol(asyncio.Protocol):
    """One connection; one request at a time, a pipelined one ends the connection."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        self._busy = False
        self._span: tracing.Span | None = None
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._seen_headers = 0
        self._body = bytearray()

    # --- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._parser = httptools.HttpRequestParser(self)
        self._world.open.add(self)
        self._idle()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._world.open.discard(self)
        self._end_span(None)
        for timer in self._timers:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._stop_timers()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400)

    def close(self) -> None:
        """The process stops."""
        self._transport.close()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, act))

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _idle(self) -> None:
        self._later(IDLE_SECONDS, self._transport.close)

    # --- the parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._busy:
            self._transport.abort()
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._seen_headers += 1
        lower = name.lower()
        if lower in _WANTED:
            self._headers[lower] = value

    def on_headers_complete(self) -> None:
        if self._seen_headers > MAX_HEADERS:
            self._refuse(431)

    def on_body(self, body: bytes) -> None:
        if len(self._body) + len(body) > MAX_BODY_BYTES:
            self._refuse(413)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        found = _PATH.fullmatch(self._url)
        number = int(found[1]) if found else 0
        if found is None or not 1 <= number <= self._world.count:
            self._refuse(404)
        elif self._parser.get_method() != b"POST":
            self._refuse(405)
        else:
            self._take(number, elsewhere=found[2] is not None)

    def _refuse(self, status: int) -> None:
        if not self._transport.is_closing():
            metrics.REFUSED.labels(str(status)).inc()
            answer = plain(status, close=True)
            self._end_span(answer)
            self._transport.write(answer)
            self._transport.close()

    # --- one webhook ----------------------------------------------------------------------------------------------

    def _take(self, receiver: int, *, elsewhere: bool) -> None:
        world = self._world
        now = world.clock.now()
        body = bytes(self._body)
        behaviour = None if elsewhere else world.switches.of(receiver, world.clock.monotonic())
        verified = world.verifier.genuine(receiver, self._headers, body, now.timestamp())
        webhook = self._headers.get(b"webhook-id", b"").decode("latin-1").replace("\x00", "") or None
        name = behaviour.name if behaviour else None
        status = None if name in _SILENT else _CODES.get(name or "", 200)
        followed = "followed_redirect" if elsewhere else name
        line = Line(receiver, webhook, event_of(body), now, status, verified, followed)
        self._busy = True
        self._span = _server_span(self._headers)
        if not world.recorder.record(line, partial(self._recorded, receiver, behaviour)):
            self._refuse(503)
            return
        metrics.REQUESTS.labels(followed or WELL).inc()
        if not verified:
            metrics.UNVERIFIED.inc()
        if behaviour is not None:
            behaviour.note(webhook)

    def _recorded(self, receiver: int, behaviour: Behaviour | None, durable: bool) -> None:
        if self._transport.is_closing():
            return
        if not durable:
            self._refuse(503)
        elif behaviour is None:
            self._answer(OK)
        else:
            self._misbehave(receiver, behaviour)

    def _answer(self, answer: bytes) -> None:
        if self._transport.is_closing():
            return
        self._busy = False
        self._end_span(answer)
        self._transport.write(answer)
        if not self._parser.should_keep_alive():
            self._transport.close()
        else:
            self._idle()

    def _end_span(self, answer: bytes | None) -> None:
        """`answer` None: the connection ended without one."""
        span, self._span = self._span, None
        if span is None or not span.recorded:
            return
        if answer is None:
            span.fail("no_answer")
        else:
            status = int(answer[9:12])
            span.set("http.response.status_code", status)
            if status >= 500:
                span.fail(str(status))
        span.end()

    def _misbehave(self, receiver: int, behaviour: Behaviour) -> None:
        name, parameters = behaviour.name, behaviour.parameters
        seconds = parameters.seconds if isinstance(parameters, Lasting) else 0.0
        if name == "dead":
            self._reset()
        elif name == "hang":
            self._later(seconds, self._transport.close)
        elif name == "slow":
            self._later(seconds, partial(self._answer, OK))
        elif name == "lying":
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthank y")
            self._later(LIE_SECONDS, self._reset)
        elif name == "endless":
            self._transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._drip(self._loop.time() + seconds)
        else:
            self._answer(_coded(receiver, parameters, _CODES[name]))

    def _drip(self, until: float) -> None:
        if self._transport.is_closing() or self._loop.time() > until:
            self._transport.close()
            return
        self._transport.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        self._later(DRIP_SECONDS, partial(self._drip, until))

    def _reset(self) -> None:
        """RST instead of FIN, as from a process that was killed."""
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _server_span(headers: Mapping[bytes, bytes]) -> tracing.Span:
    return tracing.begin(
        "POST /r/{receiver}",
        "server",
        parent=headers.get(b"traceparent", b"").decode("latin-1"),
        attributes={"http.request.method": "POST", "http.route": "/r/{receiver}", "url.scheme": "http"},
        new_trace=b"traceparent" not in headers,
    )


def _coded(receiver: int, parameters: object, status: int) -> bytes:
    headers = b""
    if isinstance(parameters, RateLimited):
        headers = b"Retry-After: %d\r\n" % parameters.retry_after
    elif status == 307:
        headers = b"Location: /r/%d/elsewhere\r\n" % receiver
    return plain(status, headers)
