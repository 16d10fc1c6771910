from collections.abc import AsyncIterator

import msgspec
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Message, Scope

from services.kit import failpoint
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
    app: FastAPI, method: str, path: str, *, body: list[bytes] | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request straight through the ASGI interface, body in the given chunks."""
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
        return await anext(source)

    async def send(message: Message) -> None:
        sent.append(message)

    await Shell(app, max_body_bytes=1024)(scope, receive, send)
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
    assert "4711" not in text


async def test_failpoints_are_armed_over_http_and_unknown_ones_refused(app: FastAPI) -> None:
    failpoint.register("test.here")
    body = [b'{"action":"delay","nth":2,"seconds":0.1}']
    assert (await call(app, "PUT", "/lab/failpoints/test.here", body=body)).status == 204
    assert msgspec.json.decode((await call(app, "GET", "/lab/failpoints")).body) == [
        {"name": "test.here", "action": "delay", "nth": 2, "seconds": 0.1, "hits": 0}
    ]
    assert (await call(app, "DELETE", "/lab/failpoints/test.here")).status == 204
    assert (await call(app, "PUT", "/lab/failpoints/test.nowhere", body=body)).status == 422


async def test_failpoints_do_not_exist_outside_the_lab_profile() -> None:
    app = service_app("test", ProcessSettings(http_port=1, lab_profile=False))
    assert (await call(app, "GET", "/lab/failpoints")).status == 404


def test_a_problem_carries_its_extra_fields() -> None:
    problem = Problem(409, "taken", "Taken", extra={"payment": "pay_1"})
    assert msgspec.json.decode(problem.body()) == {
        "type": "urn:lab:taken", "title": "Taken", "status": 409, "payment": "pay_1",
    }  # fmt: skip
