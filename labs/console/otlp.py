"""Traces without Jaeger: takes OTLP over HTTP and answers the part of Jaeger's query API (`/api/v3`) that the console asks.

`python -m labs.console.otlp` is what the native runtime runs for the image `jaegertracing/jaeger`. It is reached on two
ports, as Jaeger is, and serves the same on both.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Mapping
from datetime import datetime

from fastapi import APIRouter, FastAPI, Request
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client import Counter, Gauge
from pydantic import Field
from pydantic_settings import BaseSettings
from starlette.responses import Response

from labs.console import otlp_store
from labs.console.otlp_json import Json, traces_json
from labs.console.otlp_store import TraceStore
from services.kit.errors import Problem
from services.kit.http import json_response, serve, service_app
from services.kit.settings import ProcessSettings, load

PROTOBUF = "application/x-protobuf"
MOST_TRACES = 1000
BODY_BYTES = 4 * 1024 * 1024
UNPACKED_BYTES = 16 * 1024 * 1024

TAKEN = Counter("traces_received_spans_total", "Spans by what became of them: kept, or refused", ["outcome"])
KEPT = Gauge("traces_kept_spans", "Spans that can be asked for")
DROPPED = Gauge("traces_dropped", "Traces dropped since the start, for their age or for room")

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_TRACE_ID = re.compile(r"[0-9a-fA-F]{1,32}")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS: Mapping[str, int] = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


class ReceiverSettings(BaseSettings):
    """HTTP_PORT is the query port."""

    otlp_http_port: int = Field(ge=1, le=65535, description="Port that spans are sent to")


class QueryProblem(Problem):
    """A problem document that is also what Jaeger's gateway answers."""

    def __init__(self, status: int, code: str, title: str) -> None:
        super().__init__(status, code, title, extra={"error": {"httpCode": status, "message": title}})


class Malformed(QueryProblem):
    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(400, "malformed_parameter", f"malformed parameter {name}: it is {allowed}")


class NoTraces(QueryProblem):
    def __init__(self) -> None:
        super().__init__(404, "no_traces", "No traces found")


def unpacked(body: bytes, encoding: str) -> bytes:
    """The body without its gzip coding, of bounded size. Raises Problem."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Problem(415, "unsupported_encoding", "Send the body plain or with gzip")
    decoder = zlib.decompressobj(wbits=31)
    try:
        plain = decoder.decompress(body, UNPACKED_BYTES)
    except zlib.error:
        raise Problem(400, "invalid_gzip", "The body is not gzip") from None
    if decoder.unconsumed_tail:
        raise Problem(413, "body_too_large", f"The body unpacks to more than {UNPACKED_BYTES} bytes")
    if not decoder.eof:
        raise Problem(400, "invalid_gzip", "The gzip body ends too early")
    return plain


def decoded(body: bytes) -> ExportTraceServiceRequest:
    """Raises Problem 400."""
    try:
        request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise Problem(400, "invalid_protobuf", "The body is no ExportTraceServiceRequest") from None
    return request


def _ingestion(store: TraceStore) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/traces")
    async def take(request: Request) -> Response:
        """OTLP/HTTP: 200 with how many spans were refused, if any were."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != PROTOBUF:
            raise Problem(415, "unsupported_media_type", f"Send {PROTOBUF}")
        encoding = request.headers.get("content-encoding", "").strip().lower()
        spans = decoded(unpacked(await request.body(), encoding))
        before = store.spans
        refused = store.add(spans)
        TAKEN.labels("kept").inc(max(store.spans - before, 0))
        TAKEN.labels("refused").inc(refused)
        KEPT.set(store.spans)
        DROPPED.set(store.dropped)
        answer = ExportTraceServiceResponse()
        if refused:
            answer.partial_success.rejected_spans = refused
            answer.partial_success.error_message = "without valid ids, too large, or too many of one trace"
        return Response(answer.SerializeToString(), media_type=PROTOBUF)

    return router


def _queries(store: TraceStore) -> APIRouter:
    router = APIRouter(prefix="/api/v3")

    @router.get("/services")
    async def services() -> Response:
        """Who sent spans."""
        return json_response(200, {"services": store.services()})

    @router.get("/operations")
    async def operations(service: str = "", span_kind: str = "") -> Response:
        """Names of a service's spans."""
        found = [
            {"name": name, "spanKind": KINDS[kind] if 0 <= kind < len(KINDS) else KINDS[0]}
            for name, kind in store.operations(service)
        ]
        return json_response(200, {"operations": [each for each in found if span_kind in ("", each["spanKind"])]})

    @router.get("/traces")
    async def find(request: Request) -> Response:
        """Newest first; 404 if there are none, as with Jaeger."""
        found = store.find(read_query(request.query_params))
        if not found:
            raise NoTraces
        return json_response(200, {"result": traces_json(found)})

    @router.get("/traces/{trace_id}")
    async def get(trace_id: str) -> Response:
        """One trace."""
        if _TRACE_ID.fullmatch(trace_id) is None:
            raise Malformed("trace_id", "1 to 32 hexadecimal digits")
        found = store.trace(bytes.fromhex(trace_id.zfill(32)))
        if found is None:
            raise NoTraces
        result: Json = traces_json([found])
        return json_response(200, {"result": result})

    return router


def read_query(given: Mapping[str, str]) -> otlp_store.Query:
    """Parameters as Jaeger names them. Raises Malformed."""
    depth = "query.search_depth" if "query.search_depth" in given else "query.num_traces"
    limit = given.get(depth, "20")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MOST_TRACES):
        raise Malformed(depth, f"1 to {MOST_TRACES}")
    return otlp_store.Query(
        earliest=_time(given, "query.start_time_min"),
        latest=_time(given, "query.start_time_max"),
        service=given.get("query.service_name", ""),
        operation=given.get("query.operation_name", ""),
        shortest=_duration(given, "query.duration_min") or 0,
        longest=_duration(given, "query.duration_max"),
        limit=int(limit),
    )


def _time(given: Mapping[str, str], name: str) -> int:
    try:
        moment = datetime.fromisoformat(given.get(name, ""))
    except ValueError:
        raise Malformed(name, "required, and an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise Malformed(name, "an RFC 3339 time with its zone")
    return int(moment.timestamp() * 1_000_000) * 1_000


def _duration(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    if len(text) > 40 or _DURATION.fullmatch(text) is None:
        raise Malformed(name, "a duration as in Go, for example 250ms or 1m30s")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in _DURATION_PART.findall(text)))


def create_app(process: ProcessSettings, store: TraceStore) -> FastAPI:
    """The receiver as an application."""
    app = service_app("jaeger", process, description="The last hour's traces, in memory")
    app.include_router(_ingestion(store))
    app.include_router(_queries(store))
    return app


def main() -> int:
    """Serve until SIGTERM."""
    process = load(ProcessSettings).model_copy(update={"max_body_bytes": BODY_BYTES, "otlp_endpoint": ""})
    settings = load(ReceiverSettings)
    serve(create_app(process, TraceStore()), process, name="jaeger", more_ports=[settings.otlp_http_port])
    return 0


if __name__ == "__main__":
    sys.exit(main())
