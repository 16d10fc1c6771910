"""The HTTP shell of every process: RED metrics, trace context, size limit, problems, health, metrics, failpoints.

`service_app` makes the application, `serve` runs it. Workers have the same shell with no routes of their own: their
loops are tasks of the lifespan (see `Tasks`), so that SIGTERM, health and metrics are one thing everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from time import monotonic, perf_counter
from typing import Any, TypeVar

import msgspec
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit import clock, failpoint, garbage, logs, openapi, tracing
from services.kit.connection import MAX_HEAD_BYTES, BoundedProtocol, HeadTooLarge
from services.kit.deadline import DeadlineGate, Deadlines
from services.kit.errors import Problem
from services.kit.settings import ProcessSettings
from services.patterns.token_bucket import TokenBucket

log = logging.getLogger(__name__)

REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "Time from the request's head to the end of the answer",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
FAILURES = Counter(
    "http_server_failures_total", "Requests answered with 5xx; counted from 0, unlike a status nobody has seen"
)
IN_FLIGHT = Gauge("http_server_active_requests", "Requests being answered")
TASK_FAILURES = Counter("process_task_failures_total", "Background tasks that ended with an error", ["task"])

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "_OTHER"
BODY_SECONDS = 10.0
BACKLOG = 2048
"""Connections that wait to be accepted."""
QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Asked each second by machines: no metrics, no trace."""
UNTRACED = tracing.Span("")
SLOW_SECONDS = 1.0
"""A request as slow as this, or answered with a 5xx, gets a line in the log, which its exemplar's trace id leads to."""
LINES_PER_SECOND = 10.0
"""More are not written: when all are slow, the log must not make them slower."""

NO_NATIVE_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI has its own since 0.16x; `Shell` and kit.tracing do this for every process alike, once."""

Check = Callable[[], Awaitable[bool]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class BodyTooLarge(Problem):
    def __init__(self, limit: int) -> None:
        super().__init__(
            413, "body_too_large", "The request body is too large", detail=f"At most {limit} bytes are read."
        )


class BodyTooSlow(Problem):
    def __init__(self, seconds: float) -> None:
        super().__init__(
            408,
            "body_too_slow",
            "The request body took too long to arrive",
            detail=f"It must be here within {seconds:g} s of the head.",
            headers={"Connection": "close"},
        )


class Shell:
    """Outermost ASGI layer: limits, trace, metrics. Logs an unhandled error, which `_unexpected` has answered.

    A client that sends its body a byte at a time holds a connection and a task; it has `body_seconds` in all. To the paths
    in `streamed` a body of any length may be sent: there it has so long for each piece, from when the route asks for it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        body_seconds: float = BODY_SECONDS,
        streamed: Collection[str] = (),
    ) -> None:
        self._app = app
        self._streamed = streamed
        self._limit = max_body_bytes
        self._body_seconds = body_seconds
        self._lines = TokenBucket(LINES_PER_SECOND, LINES_PER_SECOND, monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 500
        answered = complete = arrived = False
        received = 0
        headers = dict(scope["headers"])
        quiet = scope["path"] in QUIET_ROUTES
        streamed = scope["path"] in self._streamed
        latest = asyncio.get_running_loop().time() + self._body_seconds

        async def limited_receive() -> Message:
            nonlocal received, arrived
            if arrived:
                return await receive()
            until = asyncio.get_running_loop().time() + self._body_seconds if streamed else latest
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow(self._body_seconds) from None
            arrived = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._limit and not streamed:
                raise BodyTooLarge(self._limit)
            return message

        async def noting_send(message: Message) -> None:
            nonlocal status, answered, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = True
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        IN_FLIGHT.inc()
        parent = headers.get(b"traceparent", b"").decode("latin-1")
        with nullcontext(UNTRACED) if quiet else tracing.span("HTTP", "server", parent=parent) as span:
            try:
                if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
                    raise HeadTooLarge
                length = headers.get(b"content-length", b"0")
                if not length.isdigit() or (int(length) > self._limit and not streamed):
                    raise BodyTooLarge(self._limit)
                await self._app(scope, limited_receive, noting_send)
            except Problem as problem:
                if answered:
                    raise
                await problem.response()(scope, receive, noting_send)
            except Exception:
                log.exception("unhandled error", extra={"path": scope["path"]})
                if not complete:
                    raise
            finally:
                IN_FLIGHT.dec()
                if not quiet:
                    self._observe(scope, span, status, perf_counter() - started)

    def _observe(self, scope: Scope, span: tracing.Span, status: int, seconds: float) -> None:
        route, method = getattr(scope.get("route"), "path", "unmatched"), method_of(scope)
        REQUESTS.labels(method, route, str(status)).observe(seconds, tracing.exemplar())
        FAILURES.inc(status >= 500)
        if span.recorded:
            _describe(span, scope, method, status)
        notable = status >= 500 or seconds >= SLOW_SECONDS
        level = logging.INFO if notable and self._lines.take() else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(
                level,
                "answered",
                extra={"method": method, "route": route, "status": status, "seconds": round(seconds, 4)},
            )


def method_of(scope: Scope) -> str:
    """For labels and span names, which must not be made by whoever sends a request."""
    return scope["method"] if scope["method"] in METHODS else OTHER_METHOD


def _describe(span: tracing.Span, scope: Scope, method: str, status: int) -> None:
    """Semantic conventions of an HTTP server span. The query is left out: it may hold what is nobody else's business."""
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        span.set("http.route", route)
    span.rename(" ".join(filter(None, ("HTTP" if method == OTHER_METHOD else method, route))))
    span.set("http.request.method", method)
    span.set("url.scheme", scope["scheme"])
    span.set("url.path", scope["path"])
    span.set("http.response.status_code", status)
    if (server := scope.get("server")) is not None:
        span.set("server.address", server[0])
        span.set("server.port", server[1] or 0)
    if status >= 500:
        span.fail(str(status))


class Tasks:
    """Background loops of a process. One that ends with an error takes the process down with exit code 1."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = False

    def start(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        """Run a loop until the process stops; it is cancelled at shutdown and awaited."""
        TASK_FAILURES.labels(name)  # counted from 0
        task = asyncio.create_task(loop, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        log.error("task %s failed", task.get_name(), exc_info=task.exception())
        TASK_FAILURES.labels(task.get_name()).inc()
        self.failed = True
        os.kill(os.getpid(), signal.SIGTERM)

    @property
    def alive(self) -> bool:
        """False once a loop has failed."""
        return not self.failed

    async def stop(self) -> None:
        """Cancel all loops, newest first, and wait for them."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class PlainRoute(APIRoute):
    """Its endpoint takes the request and makes the whole answer, so there is nothing to resolve, validate or render."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        return self.endpoint


def service_app(
    name: str,
    settings: ProcessSettings,
    *,
    lifespan: Lifespan | None = None,
    checks: Mapping[str, Check] | None = None,
    description: str = "",
    deadlines: Deadlines | None = None,
) -> FastAPI:
    """An application with health, metrics and, in the lab profile, failpoints. `checks` decide readiness by name.

    With `deadlines` every route below /v1 has one, see kit.deadline.
    """

    @asynccontextmanager
    async def whole_life(app: FastAPI) -> AsyncIterator[None]:
        if lifespan is None:
            yield
        else:
            async with lifespan(app):
                yield
        await asyncio.to_thread(tracing.shutdown)

    app = FastAPI(
        title=name,
        description=description,
        lifespan=whole_life,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_NATIVE_TELEMETRY,
    )
    app.state.process = settings
    assumed = app.openapi
    app.openapi = lambda: openapi.made_true(assumed(), deadlines=deadlines is not None)  # type: ignore[method-assign]  # FastAPI's documented way
    if deadlines is not None:
        app.add_middleware(DeadlineGate, deadlines=deadlines)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(Exception, _unexpected)

    @app.get("/health/live", include_in_schema=False)
    async def live() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> Response:
        failing = [check for check, ask in (checks or {}).items() if not await ask()]
        text = "not ready: " + ", ".join(failing) if failing else "ok"
        return Response(text + "\n", 503 if failing else 200, media_type="text/plain")

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        if "application/openmetrics-text" in request.headers.get("accept", ""):
            return Response(openmetrics.generate_latest(REGISTRY), media_type=openmetrics.CONTENT_TYPE_LATEST)
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    if settings.lab_profile:
        _add_failpoints(app)
        _add_clock(app)
    return app


def _add_failpoints(app: FastAPI) -> None:
    class Arming(msgspec.Struct, forbid_unknown_fields=True):
        action: str
        nth: int = 1
        seconds: float = 0.0
        subject: str = ""

    @app.get("/lab/failpoints", include_in_schema=False)
    async def listing() -> Response:
        return json_response(200, failpoint.armed())

    @app.put("/lab/failpoints/{name}", include_in_schema=False)
    async def arming(name: str, request: Request) -> Response:
        wanted = await read_json(request, Arming)
        try:
            point = failpoint.Failpoint(name, wanted.action, wanted.nth, wanted.seconds, wanted.subject)  # type: ignore[arg-type]  # arm() checks it
            failpoint.arm(point)
        except ValueError as error:
            raise Problem(422, "invalid_failpoint", "This failpoint cannot be armed", detail=str(error)) from None
        return Response(status_code=204)

    @app.delete("/lab/failpoints/{name}", include_in_schema=False)
    async def disarming(name: str) -> Response:
        failpoint.disarm(name)
        return Response(status_code=204)


def _add_clock(app: FastAPI) -> None:
    class Setting(msgspec.Struct, forbid_unknown_fields=True):
        offset_seconds: float

    @app.get("/lab/clock", include_in_schema=False)
    async def reading() -> Response:
        skew = clock.skew()
        shown = {"now": clock.wall_time(), "offset_seconds": skew.offset_seconds, "reads": skew.reads}
        return json_response(200, shown)

    @app.put("/lab/clock", include_in_schema=False)
    async def setting(request: Request) -> Response:
        wanted = await read_json(request, Setting)
        try:
            clock.set_skew(wanted.offset_seconds)
        except ValueError as error:
            raise Problem(422, "invalid_clock", "The clock cannot be set so", detail=str(error)) from None
        return Response(status_code=204)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "no_such_route", 405: "method_not_allowed"}
    code = codes.get(error.status_code, f"http_{error.status_code}")
    return Problem(error.status_code, code, str(error.detail), headers=error.headers).response()


async def _hung_up(_: Request, __: Exception) -> Response:
    return Problem(400, "body_incomplete", "The body ended before its announced length").response()


async def _unexpected(_: Request, __: Exception) -> Response:
    return Problem(500, "internal_error", "Something unexpected happened; it is in the log").response()


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"at": ".".join(str(part) for part in item["loc"]), "problem": item["msg"]} for item in error.errors()]
    return Problem(422, "invalid_request", "The request is not valid", extra={"errors": found}).response()


T = TypeVar("T")


async def read_json(request: Request, kind: type[T]) -> T:
    """Decode the body strictly. Raises 415 for another media type, 400 for no JSON, 422 for JSON of another shape."""
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower()
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise Problem(415, "unsupported_media_type", "Send application/json in UTF-8")
    body = await request.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(
            422, "invalid_request", "The body does not have the documented shape", detail=_without_values(str(error))
        ) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Problem(400, "invalid_json", "The body is not JSON in UTF-8") from None


_LONG_NUMBER = re.compile(r"[0-9](?:[ -]?[0-9]){12,}")


def _without_values(message: str) -> str:
    """A decoder's message may quote what it was given, and that may be a card number."""
    return _LONG_NUMBER.sub("(a long number)", message)[:300]


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """Encode with msgspec (Structs, dataclasses, datetimes, UUIDs)."""
    return Response(msgspec.json.encode(value), status, dict(headers or {}), media_type="application/json")


def serve(
    app: FastAPI,
    settings: ProcessSettings,
    *,
    name: str,
    tasks: Tasks | None = None,
    more_ports: Sequence[int] = (),
    streamed: Collection[str] = (),
) -> None:
    """Run until SIGTERM or SIGINT: intake stops, requests drain within `drain_seconds`, lifespan ends, exit 0.

    `more_ports` are served beside HTTP_PORT; a request's `scope["server"]` says which one it came in by. `streamed`: see Shell.
    """
    logs.configure(name, settings.log_level)
    tracing.configure(name, settings.otlp_endpoint, settings.trace_ratio)
    try:
        failpoint.arm_from_text(os.environ.get("LAB_FAILPOINTS", "") if settings.lab_profile else "")
    except ValueError as error:
        raise SystemExit(str(error)) from None
    # uvicorn raises the signal again once it has shut down; with a handler of ours the process then exits 0, not 143.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        Shell(app, max_body_bytes=settings.max_body_bytes, streamed=streamed),
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http=BoundedProtocol,
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = uvicorn.Server(config)
    garbage.collect_seldom()
    server.run(_listen(settings.http_host, (settings.http_port, *more_ports)) if more_ports else None)
    if not server.started or (tasks is not None and tasks.failed):
        sys.exit(1)


def _listen(host: str, ports: Sequence[int]) -> list[socket.socket]:
    """Bound only: the server listens once it is ready. Raises SystemExit with the port that is not to be had."""
    bound: list[socket.socket] = []
    for port in ports:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound.append(socket.socket(family, kind, protocol))
        bound[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound[-1].bind(address)
        except OSError as error:
            for one in bound:
                one.close()
            raise SystemExit(f"Port {port} cannot be listened on: {error.strerror}") from None
    return bound
