"""The receiver over HTTP: OTLP in, Jaeger's API out, and a sentence for everything else."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from starlette.types import Message, Scope

from labs.console import otlp
from labs.console.otlp_store import Bounds, TraceStore
from services.kit.http import Shell
from services.kit.settings import ProcessSettings
from tests.unit.labs.console.test_otlp_store import request, span, trace_id

PROTOBUF = {"Content-Type": "application/x-protobuf"}
RANGE = {"query.start_time_min": "2020-01-01T00:00:00Z", "query.start_time_max": "2100-01-01T00:00:00.123456789Z"}
SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND


@dataclass(frozen=True)
class Answer:
    status_code: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.content)


class Web:
    """Requests straight through the ASGI interface."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        return asyncio.run(self._call("GET", path, urlencode(params or {}).encode(), b"", {}))

    def post(self, path: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        return asyncio.run(self._call("POST", path, b"", content, headers))

    async def _call(self, method: str, path: str, query: bytes, body: bytes, headers: Mapping[str, str]) -> Answer:
        given = {"content-length": str(len(body)), **headers}
        scope: Scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": query, "root_path": "", "scheme": "http",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def note(message: Message) -> None:
            sent.append(message)

        await self._shell(scope, receive, note)
        return Answer(
            sent[0]["status"],
            {name.decode(): value.decode() for name, value in sent[0]["headers"]},
            b"".join(each.get("body", b"") for each in sent[1:]),
        )


def client(store: TraceStore | None = None) -> Web:
    app = otlp.create_app(ProcessSettings(http_port=1), store or TraceStore())
    return Web(Shell(app, max_body_bytes=otlp.BODY_BYTES))


def send(web: Web, body: bytes, headers: Mapping[str, str] = PROTOBUF) -> Answer:
    return web.post("/v1/traces", content=body, headers=headers)


def a_trace(number: int = 1) -> bytes:
    pay = span(number, 1, start=NOW, end=NOW + SECOND, name="POST /v1/payments")
    charge = span(number, 2, start=NOW + 5, end=NOW + SECOND - 5, name="POST /v1/charges", kind=3)
    charge.parent_span_id = pay.span_id
    return bytes(request(charge, pay).SerializeToString())


def test_a_trace_comes_back_as_otlp_json_with_its_spans_in_order() -> None:
    web = client()
    answer = send(web, a_trace())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(answer.content) == ExportTraceServiceResponse()
    (part,) = web.get(f"/api/v3/traces/{trace_id(1).hex()}").json()["result"]["resourceSpans"]
    assert part["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "payments-api"}}]
    first, second = part["scopeSpans"][0]["spans"]
    assert first == {
        "traceId": "00000000000000000000000000000001",
        "spanId": "0000000000000001",
        "name": "POST /v1/payments",
        "kind": 2,
        "startTimeUnixNano": str(NOW),
        "endTimeUnixNano": str(NOW + SECOND),
        "status": {},
    }
    assert second["parentSpanId"] == first["spanId"]
    assert second["kind"] == 3


def test_every_kind_of_value_has_its_json_form() -> None:
    one = span(1)
    values = {
        "string": AnyValue(string_value="é"),
        "bool": AnyValue(bool_value=False),
        "int": AnyValue(int_value=2**60),
        "double": AnyValue(double_value=0.5),
        "bytes": AnyValue(bytes_value=b"\x00\xff"),
        "array": AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)])),
        "map": AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(string_value="v"))])),
        "nothing": AnyValue(),
    }
    one.attributes.extend(KeyValue(key=name, value=value) for name, value in values.items())
    one.links.add(trace_id=trace_id(9), span_id=b"12345678")
    one.events.add(name="said", time_unix_nano=7)
    one.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="no"))
    web = client()
    send(web, request(one).SerializeToString())
    shown = web.get("/api/v3/traces/1").json()["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert {each["key"]: each["value"] for each in shown["attributes"]} == {
        "string": {"stringValue": "é"},
        "bool": {"boolValue": False},
        "int": {"intValue": str(2**60)},
        "double": {"doubleValue": 0.5},
        "bytes": {"bytesValue": "AP8="},
        "array": {"arrayValue": {"values": [{"intValue": "1"}]}},
        "map": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}},
        "nothing": {},
    }
    assert shown["links"] == [{"traceId": trace_id(9).hex(), "spanId": b"12345678".hex(), "attributes": []}]
    assert shown["events"] == [{"timeUnixNano": "7", "name": "said", "attributes": []}]
    assert shown["status"] == {"code": 2, "message": "no"}


def test_gzip_is_taken_as_well() -> None:
    web = client()
    assert send(web, gzip.compress(a_trace()), {**PROTOBUF, "Content-Encoding": "gzip"}).status_code == 200
    assert web.get("/api/v3/services").json() == {"services": ["payments-api"]}


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"\xff\xff garbage", PROTOBUF, 400, "invalid_protobuf"),
        (a_trace()[:-3], PROTOBUF, 400, "invalid_protobuf"),
        (b"\x0a\x04" * 400, PROTOBUF, 400, "invalid_protobuf"),
        (b"{}", {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        (a_trace(), {}, 415, "unsupported_media_type"),
        (a_trace(), {**PROTOBUF, "Content-Encoding": "br"}, 415, "unsupported_encoding"),
        (a_trace(), {**PROTOBUF, "Content-Encoding": "gzip"}, 400, "invalid_gzip"),
        (gzip.compress(a_trace())[:-9], {**PROTOBUF, "Content-Encoding": "gzip"}, 400, "invalid_gzip"),
        (b"x" * (otlp.BODY_BYTES + 1), PROTOBUF, 413, "body_too_large"),
        (gzip.compress(bytes(otlp.UNPACKED_BYTES + 1)), {**PROTOBUF, "Content-Encoding": "gzip"}, 413, "body_too_large"),
    ],
    ids=range(10),
)  # fmt: skip
def test_what_is_no_export_gets_a_problem(body: bytes, headers: Mapping[str, str], status: int, code: str) -> None:
    web = client()
    answer = send(web, body, headers)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:lab:{code}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert web.get("/api/v3/services").json() == {"services": []}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_whatever_make_it_fail(body: bytes) -> None:
    web = client()
    assert send(web, body).status_code in (200, 400)
    assert web.get("/api/v3/traces", params=RANGE).status_code in (200, 404)


def test_an_empty_export_is_fine() -> None:
    assert send(client(), b"").status_code == 200


def test_refused_spans_are_told_as_partial_success() -> None:
    bad = span(1)
    bad.trace_id = b""
    answer = ExportTraceServiceResponse.FromString(send(client(), request(bad, span(2)).SerializeToString()).content)
    assert answer.partial_success.rejected_spans == 1
    assert "valid ids" in answer.partial_success.error_message


def test_an_unknown_kind_is_shown_as_it_came_and_named_unspecified() -> None:
    web = client()
    send(web, request(span(1, kind=77)).SerializeToString())
    assert web.get("/api/v3/operations", params={"service": "payments-api"}).json() == {
        "operations": [{"name": "work", "spanKind": "unspecified"}]
    }
    assert web.get("/api/v3/traces/01").status_code == 200


def test_operations_are_of_one_service_and_kind() -> None:
    web = client()
    send(web, a_trace())
    of = {"service": "payments-api", "span_kind": "client"}
    assert web.get("/api/v3/operations", params=of).json() == {
        "operations": [{"name": "POST /v1/charges", "spanKind": "client"}]
    }
    assert web.get("/api/v3/operations", params={"service": "other"}).json() == {"operations": []}


def test_a_search_finds_the_newest_that_fit() -> None:
    web = client()
    for number in (1, 2, 3):
        send(web, request(span(number, start=NOW + number, end=NOW + number * SECOND)).SerializeToString())

    def ids(**query: str) -> list[int]:
        answer = web.get("/api/v3/traces", params={**RANGE, **{f"query.{name}": v for name, v in query.items()}})
        if answer.status_code == 404:
            return []
        return [
            int(part["scopeSpans"][0]["spans"][0]["traceId"], 16) for part in answer.json()["result"]["resourceSpans"]
        ]

    assert ids() == [3, 2, 1]
    assert ids(num_traces="2") == [3, 2]
    assert ids(search_depth="1", num_traces="3") == [3]
    assert ids(service_name="payments-api", operation_name="work") == [3, 2, 1]
    assert ids(service_name="nobody") == []
    assert ids(duration_min="1.5s") == [3, 2]
    assert ids(duration_min="1s500ms", duration_max="2500ms") == [2]
    assert ids(start_time_max="2021-01-01T00:00:00+02:00") == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"query.start_time_min": "2020-01-01T00:00:00Z"},
        {**RANGE, "query.start_time_max": "yesterday"},
        {**RANGE, "query.start_time_max": "2020-01-01T00:00:00"},
        {**RANGE, "query.num_traces": "0"},
        {**RANGE, "query.num_traces": "many"},
        {**RANGE, "query.num_traces": "٣"},
        {**RANGE, "query.search_depth": "1001"},
        {**RANGE, "query.duration_min": "5"},
        {**RANGE, "query.duration_max": "-1s"},
        {**RANGE, "query.duration_max": "1" * 50 + "s"},
    ],
    ids=range(11),
)
def test_a_malformed_query_names_its_parameter(query: Mapping[str, str]) -> None:
    answer = client().get("/api/v3/traces", params=dict(query))
    assert answer.status_code == 400
    assert answer.json()["title"].startswith("malformed parameter query.")
    assert answer.json()["error"] == {"httpCode": 400, "message": answer.json()["title"]}


@pytest.mark.parametrize(("path", "status"), [("zz", 400), ("1" * 33, 400), ("0", 404), ("a" * 32, 404)])
def test_a_trace_that_is_not_here_is_said_as_jaeger_says_it(path: str, status: int) -> None:
    answer = client().get(f"/api/v3/traces/{path}")
    assert (answer.status_code, answer.json()["error"]["httpCode"]) == (status, status)


def test_a_flood_stays_within_its_bounds() -> None:
    store = TraceStore(Bounds(spans=100))
    web = client(store)
    for number in range(1, 60):
        body = request(*(span(number, each) for each in range(1, 11))).SerializeToString()
        assert send(web, gzip.compress(body), {**PROTOBUF, "Content-Encoding": "gzip"}).status_code == 200
    assert store.spans == 100
    assert store.dropped == 49
