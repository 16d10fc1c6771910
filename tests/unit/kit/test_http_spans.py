"""The shell's server span and the client's call, by OpenTelemetry's names; what machines ask each second leaves none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import pytest
from aiohttp import web
from fastapi import FastAPI, Request
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.responses import Response

from services.kit import http
from services.kit.client import Call, CallFailed, Client, ClientOptions
from services.kit.http import service_app
from services.kit.settings import ProcessSettings
from services.patterns.backoff import Backoff
from services.patterns.retry import RetryPolicy, Safety
from tests.unit.kit.recorded_spans import recorded
from tests.unit.kit.test_http import call

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def an_app() -> FastAPI:
    app = service_app("test", ProcessSettings(http_port=1))

    @app.get("/v1/things/{thing}")
    async def get(thing: str, request: Request) -> Response:
        return Response(status_code=int(request.headers.get("wanted", "200")))

    return app


def attributes(span: ReadableSpan) -> Mapping[str, object]:
    assert span.attributes is not None
    return span.attributes


async def one(path: str, method: str = "GET", **headers: str) -> ReadableSpan:
    with recorded() as exporter:
        await call(an_app(), method, path, headers=headers)
    (span,) = exporter.get_finished_spans()
    return span


async def test_a_server_span_is_named_by_its_route_and_belongs_to_the_caller() -> None:
    span = await one("/v1/things/thing_1", traceparent=PARENT)
    assert (span.name, span.kind) == ("GET /v1/things/{thing}", SpanKind.SERVER)
    assert span.parent is not None
    assert span.parent.span_id == int(PARENT[36:52], 16)
    assert attributes(span) == {
        "http.route": "/v1/things/{thing}",
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/v1/things/thing_1",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": 2,
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_only_a_5xx_is_a_servers_failure() -> None:
    refused, failed = await one("/v1/things/1", wanted="404"), await one("/v1/things/1", wanted="503")
    assert refused.status.status_code is StatusCode.UNSET
    assert (failed.status.status_code, attributes(failed)["error.type"]) == (StatusCode.ERROR, "503")


async def test_neither_a_path_nor_a_method_from_outside_becomes_a_name() -> None:
    assert (await one("/wp-admin.php")).name == "GET"
    assert (await one("/v1/things/1", method="BREW")).name == "HTTP /v1/things/{thing}"


async def test_health_and_metrics_leave_no_span() -> None:
    with recorded() as exporter:
        for path in http.QUIET_ROUTES:
            await call(an_app(), "GET", path)
    assert exporter.get_finished_spans() == ()


async def test_a_failed_request_has_a_log_line_which_a_flood_does_not_multiply(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "LINES_PER_SECOND", 2)
    shell = http.Shell(an_app(), max_body_bytes=1024)
    monkeypatch.setattr("tests.unit.kit.test_http.Shell", lambda *_, **__: shell)
    app = FastAPI()
    with caplog.at_level(logging.INFO, http.__name__):
        await call(app, "GET", "/v1/things/1")
        assert caplog.records == []
        for _ in range(20):
            await call(app, "GET", "/v1/things/1", headers={"wanted": "503"})
    lines = [record for record in caplog.records if record.message == "answered"]
    assert 2 <= len(lines) < 10
    assert vars(lines[0])["status"] == 503
    assert vars(lines[0])["route"] == "/v1/things/{thing}"


async def served(status: int) -> tuple[web.AppRunner, str, list[str]]:
    """What runs, where, and the traceparents that came."""
    app = web.Application()
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent", ""))
        return web.Response(status=status)

    app.router.add_post("/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}", seen


PAY = Call("pay", "POST", "/v1/charges/ch_1/capture", Safety.IDEMPOTENT, b"{}", template="/v1/charges/{id}/capture")


async def test_each_attempt_is_a_client_span_and_the_server_is_told_of_it() -> None:
    runner, url, seen = await served(503)
    retries = RetryPolicy(attempts=2, backoff=Backoff(base=0.001, cap=0.001))
    try:
        with recorded() as exporter:
            async with Client("bank", url, ClientOptions(timeout=5, retries=retries)) as client:
                answer = await client.call(PAY)
    finally:
        await runner.cleanup()
    assert answer.status == 503
    first, second = exporter.get_finished_spans()
    port = int(url.rpartition(":")[2])
    assert (first.name, first.kind) == ("POST /v1/charges/{id}/capture", SpanKind.CLIENT)
    assert attributes(second) == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.full": f"{url}/v1/charges/ch_1/capture",
        "url.template": "/v1/charges/{id}/capture",
        "http.request.resend_count": 1,
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert "http.request.resend_count" not in attributes(first)
    assert first.context is not None
    assert second.context is not None
    told = [each[36:52] for each in seen]
    assert told == [f"{first.context.span_id:016x}", f"{second.context.span_id:016x}"]


async def test_a_call_without_an_answer_says_why_in_a_word() -> None:
    with recorded() as exporter:
        async with Client("bank", "http://user:secret@127.0.0.1:1", ClientOptions(timeout=1)) as client:
            with pytest.raises(CallFailed):
                await client.call(PAY)
    (span,) = exporter.get_finished_spans()
    assert attributes(span)["error.type"] == "not_connected"
    assert attributes(span)["url.full"] == "http://127.0.0.1:1/v1/charges/ch_1/capture"
    assert "secret" not in str(attributes(span))
    await asyncio.sleep(0)
