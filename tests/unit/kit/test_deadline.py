from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, Counter
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Message, Scope

from services.kit.deadline import DeadlineOver, Deadlines, bound, completed, current, left
from services.kit.http import Shell, service_app
from services.kit.settings import ProcessSettings
from services.patterns.deadline import HEADER, Budget, Deadline

BUDGET = Budget(default=5.0, maximum=20.0)


@dataclass
class Caller:
    """A client on the other side of the ASGI interface, who may hang up."""

    body: tuple[bytes, ...] = (b"",)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Message] = field(default_factory=list)
    received: int = 0

    async def receive(self) -> Message:
        if self.received < len(self.body):
            self.received += 1
            return {
                "type": "http.request",
                "body": self.body[self.received - 1],
                "more_body": self.received < len(self.body),
            }
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def problem(self) -> str:
        kind: str = msgspec.json.decode(self.sent[1]["body"])["type"]
        return kind


@dataclass
class Service:
    """One route, `work`, behind the gate."""

    work: Callable[[Request], Awaitable[None]]
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        abandoned = Counter("abandoned_total", "-", ["reason"], registry=self.registry)
        wasted = Counter("wasted_seconds_total", "-", ["reason"], registry=self.registry)
        self.app = service_app("test", ProcessSettings(http_port=1), deadlines=Deadlines(BUDGET, abandoned, wasted))

        async def route(request: Request) -> Response:
            await self.work(request)
            return Response("done")

        self.app.add_api_route("/v1/work", route, methods=["GET", "POST"])
        self.app.add_api_route("/free", route, methods=["GET"])

    async def call(
        self, caller: Caller, *, path: str = "/v1/work", method: str = "GET", timeouts: tuple[str, ...] = ()
    ) -> None:
        headers = [(HEADER.lower().encode(), value.encode("latin-1")) for value in timeouts]
        if caller.body != (b"",):
            headers.append((b"content-length", str(sum(map(len, caller.body))).encode()))
        scope: Scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        await Shell(self.app, max_body_bytes=1024)(scope, caller.receive, caller.send)

    def count(self, name: str, reason: str) -> float:
        return self.registry.get_sample_value(name, {"reason": reason}) or 0.0


async def nothing(_: Request) -> None:
    return None


async def for_ever(_: Request) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("text", ["soon", "1.5", "", "+7"])
async def test_garbage_is_a_400_and_nothing_is_done(text: str) -> None:
    caller = Caller()
    await Service(for_ever).call(caller, timeouts=(text,))
    assert (caller.status, caller.problem) == (400, "urn:lab:deadline_invalid")


async def test_two_headers_are_a_400() -> None:
    caller = Caller()
    await Service(for_ever).call(caller, timeouts=("100", "200"))
    assert caller.status == 400


@pytest.mark.parametrize("text", ["0", "-1", "-99999999999999999999"])
async def test_a_deadline_that_is_over_is_a_504_at_once(text: str) -> None:
    caller, service = Caller(), Service(for_ever)
    await service.call(caller, timeouts=(text,))
    assert (caller.status, caller.problem) == (504, "urn:lab:deadline_exceeded")
    assert caller.headers["retry-after"] == "1"
    assert service.count("abandoned_total", "deadline") == 1


@pytest.mark.parametrize(("timeouts", "seconds"), [((), 5.0), (("1500",), 1.5), (("999999999999999999",), 20.0)])
async def test_the_handler_sees_the_deadline(timeouts: tuple[str, ...], seconds: float) -> None:
    seen: list[float] = []

    async def look(_: Request) -> None:
        deadline = current()
        assert deadline is not None
        seen.append(deadline.remaining())

    caller = Caller()
    await Service(look).call(caller, timeouts=timeouts)
    assert caller.status == 200
    assert seconds - 1.0 < seen[0] <= seconds
    assert current() is None


async def test_work_that_takes_longer_than_the_deadline_is_cancelled_and_answered_504() -> None:
    ended: list[str] = []

    async def long(_: Request) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    caller, service = Caller(), Service(long)
    await service.call(caller, timeouts=("20",))
    assert (caller.status, caller.problem, ended) == (504, "urn:lab:deadline_exceeded", ["cancelled"])
    assert service.count("abandoned_total", "deadline") == 1
    assert service.count("wasted_seconds_total", "deadline") > 0


@pytest.mark.parametrize("body", [(b"",), (b"{", b"}")])
async def test_work_whose_caller_hangs_up_is_cancelled(body: tuple[bytes, ...]) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def long(request: Request) -> None:
        await request.body()
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller, service = Caller(body), Service(long)
    call = asyncio.create_task(service.call(caller, method="POST"))
    await begun.wait()
    caller.hung_up.set()
    await call
    assert ended.is_set()
    assert caller.status == 499
    assert service.count("abandoned_total", "caller_left") == 1
    assert service.count("wasted_seconds_total", "caller_left") > 0


async def test_what_is_done_after_the_answer_is_not_cut() -> None:
    """Once the answer is complete the server says that the caller is gone, whether he is or not."""
    done: list[str] = []
    caller, service = Caller(), Service(nothing)

    async def afterwards() -> None:
        caller.hung_up.set()
        await asyncio.sleep(0.01)
        done.append("done")

    async def route() -> Response:
        return Response("answered", background=BackgroundTask(afterwards))

    service.app.add_api_route("/v1/more", route)
    await service.call(caller, path="/v1/more")
    assert (done, caller.status, len(caller.sent)) == (["done"], 200, 2)
    assert service.count("abandoned_total", "caller_left") == 0


async def test_a_body_arrives_whole_though_somebody_watches_the_line() -> None:
    bodies: list[bytes] = []

    async def read(request: Request) -> None:
        bodies.append(await request.body())

    await Service(read).call(Caller((b"ab", b"cd", b"ef")), method="POST")
    await Service(read).call(Caller(), method="POST")
    assert bodies == [b"abcdef", b""]


async def test_a_handler_may_ask_whether_the_caller_is_still_there() -> None:
    seen: list[bool] = []

    async def ask(request: Request) -> None:
        await request.body()
        seen.append(await request.is_disconnected())

    caller = Caller((b"x",))
    await Service(ask).call(caller, method="POST")
    assert (caller.status, seen) == (200, [False])


async def test_an_error_of_the_handler_is_still_a_500() -> None:
    async def broken(_: Request) -> None:
        raise TimeoutError("of something else")

    caller, service = Caller(), Service(broken)
    await service.call(caller)
    assert caller.status == 500
    assert service.count("abandoned_total", "deadline") == 0


async def test_health_metrics_and_whatever_is_not_below_v1_has_no_deadline() -> None:
    caller = Caller()
    await Service(nothing).call(caller, path="/free", timeouts=("0",))
    assert caller.status == 200


async def test_a_begun_answer_is_not_cut() -> None:
    service = Service(nothing)
    begun, released = asyncio.Event(), asyncio.Event()

    async def streaming() -> Response:
        return SlowResponse(begun, released)

    service.app.add_api_route("/v1/slow", streaming, methods=["GET"])
    caller = Caller()
    call = asyncio.create_task(service.call(caller, path="/v1/slow", timeouts=("30",)))
    await begun.wait()
    await asyncio.sleep(0.05)  # past the deadline
    released.set()
    await call
    assert caller.status == 200
    assert caller.sent[-1]["body"] == b"late"


class SlowResponse(Response):
    def __init__(self, begun: asyncio.Event, released: asyncio.Event) -> None:
        super().__init__()
        self.begun = begun
        self.released = released

    async def __call__(self, scope: Scope, receive: object, send: Callable[[Message], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.begun.set()
        await self.released.wait()
        await send({"type": "http.response.body", "body": b"late"})


async def test_what_must_be_completed_is_completed_though_the_caller_leaves() -> None:
    committed: list[str] = []
    begun, released = asyncio.Event(), asyncio.Event()

    async def commit() -> None:
        begun.set()
        await released.wait()
        committed.append("done")

    async def work(_: Request) -> None:
        await completed(commit(), within=5.0)
        committed.append("not reached")

    caller = Caller()
    call = asyncio.create_task(Service(work).call(caller))
    await begun.wait()
    caller.hung_up.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not call.done()
    released.set()
    await call
    assert committed == ["done"]
    assert caller.status == 499


async def test_it_has_a_deadline_of_its_own_not_the_caller_s() -> None:
    async def look() -> float:
        deadline = current()
        assert deadline is not None
        return deadline.remaining()

    with bound(Deadline.after(0.0)):
        assert 1.0 < await completed(look(), within=2.0) <= 2.0
        with pytest.raises(DeadlineOver):
            left(1.0)


async def test_its_error_is_the_caller_s() -> None:
    async def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await completed(fail(), within=1.0)


async def test_an_error_after_the_caller_left_is_nobody_s() -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        begun.set()
        await released.wait()
        raise OSError("broken")

    task = asyncio.create_task(completed(fail(), within=1.0))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_timeouts_are_what_is_left() -> None:
    assert left(3.0) == 3.0
    with bound(Deadline.after(1.0)):
        assert 0.5 < left(3.0) <= 1.0
        assert left(0.1) == 0.1


def test_an_app_without_deadlines_has_no_gate() -> None:
    app = service_app("plain", ProcessSettings(http_port=1))
    assert isinstance(app, FastAPI)
    assert app.user_middleware == []
