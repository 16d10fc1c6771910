"""uvicorn's HTTP/1.1 connection with bounds on what comes before a body: uvicorn itself waits for a head, and keeps it, without end."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.kit.errors import Problem

MAX_HEAD_BYTES = 64 * 1024
"""Of the request line and all headers; kit.http refuses a whole head that is longer, this class one that never ends."""
HEAD_SECONDS = 10.0
"""From the connection, or from a request's first byte, to the end of its head."""
TICKS = 2
"""The time is told in so many parts: after a pause of the whole process at most one of them is over before data is read."""


class HeadTooLarge(Problem):
    def __init__(self) -> None:
        super().__init__(
            431,
            "headers_too_large",
            "The head of the request is too large",
            detail=f"Request line and headers have at most {MAX_HEAD_BYTES} bytes.",
            headers={"Connection": "close"},
        )


class HeadTooSlow(Problem):
    def __init__(self, seconds: float) -> None:
        super().__init__(
            408,
            "headers_too_slow",
            "The head of the request took too long to arrive",
            detail=f"It must be here within {seconds:g} s.",
            headers={"Connection": "close"},
        )


class NotHttp(Problem):
    def __init__(self) -> None:
        super().__init__(400, "malformed_http", "This is not HTTP/1.1", headers={"Connection": "close"})


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose head, trailers or chunk extensions have no end; what is not HTTP is told so in a problem."""

    head_seconds = HEAD_SECONDS
    max_head_bytes = MAX_HEAD_BYTES

    _unread = 0
    _in_head = False
    _ticks = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._begin_to_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unread > self.max_head_bytes:
            self._refuse(HeadTooLarge())
        elif not self._busy and self._timer is None:
            self._begin_to_wait()

    def on_message_begin(self) -> None:
        self._unread = 0
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        del msg
        self._refuse(NotHttp())

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _begin_to_wait(self) -> None:
        self._ticks = 0
        self._timer = self.loop.call_later(self.head_seconds / TICKS, self._tick)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks < TICKS:
            self._timer = self.loop.call_later(self.head_seconds / TICKS, self._tick)
            return
        self._timer = None
        if self._in_head:
            self._refuse(HeadTooSlow(self.head_seconds))
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        if not self._busy:
            answer = problem.response()
            head = [
                STATUS_LINE[problem.status],
                *(name + b": " + value + b"\r\n" for name, value in answer.raw_headers),
            ]
            self.transport.write(b"".join([*head, b"\r\n", bytes(answer.body)]))
        self.transport.close()
