import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Message, Scope

from services.kit import clock, failpoint, http
from services.kit.errors import Problem, Unavailable
from services.kit.http import Shell, json_response, read_json, service_app
from services.kit.settings import ProcessSettings


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    size: int


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


async def call(
    app: FastAPI,
    method: str,
    path: str,
    *,
    body: list[bytes] | None = None,
    headers: dict[str, str] | None = None,
    stalls: bool = False,
) -> Answer:
    """One request straight through the ASGI interface, body in the given chunks; the last one never comes if it `stalls`."""
    chunks = body or [b""]
    given = {"content-type": "application/json"} | (headers or {})
    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    sent: list[Message] = []

    async def messages() -> AsyncIterator[Message]:
        for number, chunk in enumerate(chunks):
            yield {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}

    source = messages()

    async def receive() -> Message:
        message = await anext(source)
        if stalls and not message["more_body"]:
            await asyncio.Event().wait()
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    shell = Shell(app, max_body_bytes=1024, body_seconds=0.05 if stalls else 10, streamed=("/streams",))
    await shell(scope, receive, send)
    start = sent[0]
    return Answer(
        start["status"],
        {k.decode(): v.decode() for k, v in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


@pytest.fixture
def app() -> FastAPI:
    ready = {"database": True}

    async def check() -> bool:
        return ready["database"]

    app = service_app("test", ProcessSettings(http_port=1, lab_profile=True), checks={"database": check})
    app.state.ready = ready

    @app.post("/things")
    async def things(request: Request) -> Response:
        return json_response(201, await read_json(request, Thing))

    @app.post("/streams")
    async def streams(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    @app.get("/numbers/{number}")
    async def numbers(number: int) -> int:
        return number

    @app.get("/broken")
    async def broken() -> None:
        raise KeyError("secret detail")

    @app.get("/busy")
    async def busy() -> None:
        raise Unavailable("The queue is full.", retry_after_seconds=3)

    return app


async def test_a_good_body_is_decoded_and_answered(app: FastAPI) -> None:
    answer = await call(app, "POST", "/things", body=[b'{"name":"x",', b'"size":1}'])
    assert (answer.status, answer.body) == (201, b'{"name":"x","size":1}')


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b'{"name":"x","size":1}', "text/plain", 415, "unsupported_media_type"),
        (b'{"name":"x","size":1}', "application/json; charset=latin-1", 415, "unsupported_media_type"),
        (b"", "application/json", 400, "invalid_json"),
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"name":"\xff","size":1}', "application/json", 400, "invalid_json"),
        (b"[" * 1000, "application/json", 422, "invalid_request"),
        (b'{"name":"x","size":"1"}', "application/json", 422, "invalid_request"),
        (b'{"name":"x","size":1.5}', "application/json", 422, "invalid_request"),
        (b'{"name":"x"}', "application/json", 422, "invalid_request"),
        (b'{"name":"x","size":1,"colour":"red"}', "application/json", 422, "invalid_request"),
        (b'{"name":"' + b"x" * 2000 + b'"}', "application/json", 413, "body_too_large"),
    ],
)
async def test_bad_input_gets_a_problem_document(
    app: FastAPI, body: bytes, content_type: str, status: int, code: str
) -> None:
    answer = await call(app, "POST", "/things", body=[body], headers={"content-type": content_type})
    document = msgspec.json.decode(answer.body)
    assert (answer.status, document["type"], document["status"]) == (status, f"urn:lab:{code}", status)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_larger_than_it_says_is_cut_off(app: FastAPI) -> None:
    answer = await call(app, "POST", "/things", body=[b"x" * 600, b"x" * 600], headers={"content-length": "10"})
    assert answer.status == 413


@pytest.mark.parametrize("length", ["-1", "ten", "99999999"])
async def test_a_strange_content_length_is_refused(app: FastAPI, length: str) -> None:
    assert (await call(app, "POST", "/things", headers={"content-length": length})).status == 413


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/things", 405), ("GET", "/numbers/x", 422)]
)
async def test_errors_of_the_framework_are_problem_documents_too(
    app: FastAPI, method: str, path: str, status: int
) -> None:
    answer = await call(app, method, path)
    assert (answer.status, msgspec.json.decode(answer.body)["status"]) == (status, status)


async def test_an_unexpected_error_is_a_500_that_leaks_nothing(app: FastAPI) -> None:
    answer = await call(app, "GET", "/broken")
    assert answer.status == 500
    assert b"secret" not in answer.body


async def test_unavailable_says_when_to_come_again(app: FastAPI) -> None:
    answer = await call(app, "GET", "/busy")
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")


async def test_readiness_names_what_fails(app: FastAPI) -> None:
    assert (await call(app, "GET", "/health/ready")).status == 200
    app.state.ready["database"] = False
    answer = await call(app, "GET", "/health/ready")
    assert (answer.status, answer.body) == (503, b"not ready: database\n")


async def test_metrics_name_the_route_and_not_the_path(app: FastAPI) -> None:
    await call(app, "GET", "/numbers/4711")
    text = (await call(app, "GET", "/metrics")).body.decode()
    assert 'route="/numbers/{number}"' in text
    assert "/numbers/4711" not in text  # the digits alone may be in a time


async def test_failpoints_are_armed_over_http_and_unknown_ones_refused(app: FastAPI) -> None:
    failpoint.register("test.here")
    body = [b'{"action":"delay","nth":2,"seconds":0.1}']
    assert (await call(app, "PUT", "/lab/failpoints/test.here", body=body)).status == 204
    assert msgspec.json.decode((await call(app, "GET", "/lab/failpoints")).body) == [
        {"name": "test.here", "action": "delay", "nth": 2, "seconds": 0.1, "subject": "", "hits": 0}
    ]
    assert (await call(app, "DELETE", "/lab/failpoints/test.here")).status == 204
    assert (await call(app, "PUT", "/lab/failpoints/test.nowhere", body=body)).status == 422


@pytest.fixture
def right_clock() -> Iterator[None]:
    yield
    clock.set_skew(0)


@pytest.mark.usefixtures("right_clock")
async def test_the_wall_clock_can_be_put_wrong_and_the_monotonic_one_stays_right(app: FastAPI) -> None:
    before = clock.SystemClock().monotonic()
    assert (await call(app, "PUT", "/lab/clock", body=[b'{"offset_seconds":3600}'])).status == 204
    ahead = clock.SystemClock().now() - datetime.now(UTC)
    assert timedelta(minutes=59) < ahead <= timedelta(minutes=60)
    assert clock.SystemClock().monotonic() - before < 3000
    shown = msgspec.json.decode((await call(app, "GET", "/lab/clock")).body)
    assert (shown["offset_seconds"], shown["reads"]) == (3600.0, 1)
    assert datetime.fromisoformat(shown["now"]) - datetime.now(UTC) > timedelta(minutes=59)
    assert (await call(app, "PUT", "/lab/clock", body=[b'{"offset_seconds":0}'])).status == 204
    assert clock.SystemClock().now() - datetime.now(UTC) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 422),
        (b'{"offset_seconds":"soon"}', 422),
        (b'{"offset_seconds":1e7}', 422),
        (b'{"offset_seconds":-1e7}', 422),
        (b'{"offset_seconds":1,"zone":"UTC"}', 422),
        (b'{"offset_seconds":NaN}', 400),
        (b"soon", 400),
    ],
)
async def test_a_clock_is_not_set_to_nonsense(app: FastAPI, body: bytes, status: int) -> None:
    assert (await call(app, "PUT", "/lab/clock", body=[body])).status == status
    assert clock.skew().offset_seconds == 0


async def test_failpoints_and_the_clock_cannot_be_reached_outside_the_lab_profile() -> None:
    app = service_app("test", ProcessSettings(http_port=1, lab_profile=False))
    assert (await call(app, "GET", "/lab/failpoints")).status == 404
    assert (await call(app, "PUT", "/lab/clock", body=[b'{"offset_seconds":1}'])).status == 404


def test_a_problem_carries_its_extra_fields() -> None:
    problem = Problem(409, "taken", "Taken", extra={"payment": "pay_1"})
    assert msgspec.json.decode(problem.body()) == {
        "type": "urn:lab:taken", "title": "Taken", "status": 409, "payment": "pay_1",
    }  # fmt: skip


def test_a_process_may_be_served_on_several_ports_that_open_when_it_is_ready() -> None:
    first, second = http._listen("127.0.0.1", (0, 0))
    with first, second:
        address = second.getsockname()
        with pytest.raises(ConnectionRefusedError), socket.create_connection(address, timeout=2):
            pass
        second.listen()
        with socket.create_connection(address, timeout=2):
            pass
        with pytest.raises(SystemExit, match=f"Port {address[1]} cannot be listened on"):
            http._listen("127.0.0.1", (0, address[1]))


async def test_a_body_that_does_not_arrive_in_time_gets_a_problem_and_the_connection_is_closed(app: FastAPI) -> None:
    answer = await call(app, "POST", "/things", body=[b'{"name":', b'"x","size":1}'], stalls=True)
    assert (answer.status, msgspec.json.decode(answer.body)["type"]) == (408, "urn:lab:body_too_slow")
    assert answer.headers["connection"] == "close"


async def test_a_streamed_body_may_have_any_length_and_is_read_piece_by_piece(app: FastAPI) -> None:
    answer = await call(app, "POST", "/streams", body=[b"x" * 600] * 100, headers={"content-length": "60000"})
    assert (answer.status, answer.body) == (200, b"60000")


async def test_a_streamed_body_that_stops_in_the_middle_gets_a_problem(app: FastAPI) -> None:
    answer = await call(app, "POST", "/streams", body=[b"x", b"y", b"never"], stalls=True)
    assert (answer.status, msgspec.json.decode(answer.body)["type"]) == (408, "urn:lab:body_too_slow")


async def test_a_caller_who_waits_long_for_the_answer_is_no_slow_body() -> None:
    app = service_app("test", ProcessSettings(http_port=1))

    @app.post("/slow")
    async def slow(request: Request) -> Response:
        await request.body()
        listening = asyncio.ensure_future(request.receive())
        done, _ = await asyncio.wait([listening], timeout=0.1)
        listening.cancel()
        return Response(b"still there" if not done else b"gone")

    waiting = asyncio.Event()
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await waiting.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/slow",
        "raw_path": b"/slow", "query_string": b"", "root_path": "", "scheme": "http", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    await Shell(app, max_body_bytes=1024, body_seconds=0.02)(scope, receive, send)
    assert sent[0]["status"] == 200
    assert sent[1]["body"] == b"still there"
