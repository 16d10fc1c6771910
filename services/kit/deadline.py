"""The deadline of the request that is being answered: read from its header, ended when it is over or its caller has left.

`service_app(..., deadlines=Deadlines(...))` puts the gate before all routes below /v1. Handlers need no argument for it:
`current()` and `left()` read it, the HTTP client passes it on. Work that must not be cut in the middle (a commit that
follows an effect in the outside world) goes through `completed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.errors import Problem
from services.patterns.deadline import HEADER, Budget, Deadline, DeadlineExceeded, DeadlineMalformed, received

GUARDED = "/v1/"
CALLER_LEFT = 499
"""nginx's number for *client closed request*; only metrics see it, the client is gone."""

_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)

T = TypeVar("T")


class DeadlineInvalid(Problem):
    def __init__(self) -> None:
        super().__init__(
            400,
            "deadline_invalid",
            f"{HEADER} is one whole number of milliseconds",
            detail="Leave it out for the default.",
        )


class DeadlineOver(Problem):
    """504. Whether something was done is not known; with the same idempotency key it is safe to ask again."""

    def __init__(self) -> None:
        super().__init__(
            504, "deadline_exceeded", "The time that the caller grants is over", headers={"Retry-After": "1"}
        )


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What a service grants its callers, and how it counts work that nobody waited for.

    Both counters have the label `reason`: deadline or caller_left. `wasted` counts the seconds from the request to the end
    of its work.
    """

    budget: Budget
    abandoned: Counter
    wasted: Counter


def current() -> Deadline | None:
    """Of the request that this task works for; None outside of one."""
    return _current.get()


def left(at_most: float) -> float:
    """A timeout in seconds: `at_most`, or what is left of the current deadline. Raises DeadlineOver if that is nothing."""
    deadline = _current.get()
    if deadline is None:
        return at_most
    seconds = deadline.within(at_most)
    if seconds <= 0:
        raise DeadlineOver
    return seconds


@contextmanager
def bound(deadline: Deadline | None) -> Iterator[None]:
    """Run the block under this deadline."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


async def completed(work: Coroutine[Any, Any, T], *, within: float) -> T:
    """Run `work` to its end even if the caller is cancelled; the cancellation goes on afterwards.

    It runs under a deadline of its own, `within` seconds, which bounds what it calls (nothing cuts it from outside). Not a
    background task: the caller still waits for it, so that nothing is left running.
    """
    with bound(Deadline.after(within)):
        task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()
        raise


class DeadlineGate:
    """ASGI middleware. A request whose time is over gets 504; work whose caller has hung up is cancelled."""

    def __init__(self, app: ASGIApp, *, deadlines: Deadlines, clock: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._deadlines = deadlines
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            deadline = received(headers.getlist(HEADER), self._deadlines.budget, self._clock)
        except DeadlineMalformed:
            await DeadlineInvalid().response()(scope, receive, send)
        except DeadlineExceeded:
            self._count("deadline", 0.0)
            await DeadlineOver().response()(scope, receive, send)
        else:
            await self._limited(scope, _Line(receive, send, has_body=_has_body(headers)), deadline)

    async def _limited(self, scope: Scope, line: _Line, deadline: Deadline) -> None:
        started = self._clock()
        try:
            with bound(deadline):
                async with asyncio.timeout(deadline.remaining()) as limit, line.watched(limit):
                    await self._app(scope, line.receive, line.send)
        except TimeoutError:
            if not limit.expired():
                raise
            self._count("caller_left" if line.hung_up else "deadline", self._clock() - started)
            answer = Response(status_code=CALLER_LEFT) if line.hung_up else DeadlineOver().response()
            await answer(scope, line.receive, line.send)

    def _count(self, reason: str, seconds: float) -> None:
        self._deadlines.abandoned.labels(reason).inc()
        self._deadlines.wasted.labels(reason).inc(seconds)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


class _Line:
    """The connection to the caller: once the body is in, whatever arrives can only be the caller's hanging up."""

    def __init__(self, receive: Receive, send: Send, *, has_body: bool) -> None:
        self._receive = receive
        self._send = send
        self._whole = asyncio.Event()
        self._first: Message | None = None
        self._has_body = has_body
        self._gone = asyncio.Event()
        self._answered = False
        self._limit: asyncio.Timeout | None = None

    @property
    def hung_up(self) -> bool:
        return self._gone.is_set()

    def watched(self, limit: asyncio.Timeout) -> _Watch:
        """While the block runs, hanging up ends `limit` at once; a begun answer takes it off."""
        self._limit = limit
        return _Watch(self.watch())

    async def watch(self) -> None:
        if self._has_body:
            await self._whole.wait()
        else:
            self._first = await self._receive()
            self._whole.set()
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone.set()
            # A server says this after a whole answer too, whoever is still there; what follows an answer is not cut.
            if not self._answered:
                self._reschedule(0.0)

    async def receive(self) -> Message:
        if not self._whole.is_set():
            if not self._has_body:
                await self._whole.wait()
            else:
                message = await self._receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    self._whole.set()
                return message
        if self._first is not None:
            first, self._first = self._first, None
            return first
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._reschedule(None)
        self._answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def _reschedule(self, when: float | None) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(when)


class _Watch:
    """A task for the time of a block."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.ensure_future(work)

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
