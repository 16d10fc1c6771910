"""The lab's receiver and the real Jaeger answer the same questions about the same spans alike."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from infra.docker import engine
from infra.native.compose import ComposeFile
from infra.native.free_ports import free_ports
from infra.runtime import RuntimeProblem
from tests.integration.payments.stack import client, until
from tests.servers import ROOT
from tests.unit.labs.console.test_otlp_store import request, span, trace_id

IMAGE = ComposeFile(ROOT / "docker-compose.yml").resolve({}).service("jaeger").image
PROTOBUF = {"Content-Type": "application/x-protobuf"}
ALL = {"query.service_name": "payments-api", "query.start_time_min": "2020-01-01T00:00:00Z",
       "query.start_time_max": "2100-01-01T00:00:00Z", "query.num_traces": "5"}  # fmt: skip


def why_not() -> str:
    """The reason for not comparing, or ""."""
    try:
        engine.answers()
    except RuntimeProblem as problem:
        return str(problem)
    return "" if engine.has_image(IMAGE) else f"The image {IMAGE} is not here."


WHY_NOT = why_not()
pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]


@contextmanager
def real_jaeger(query: int, otlp: int) -> Iterator[None]:
    """A container with the project's own configuration."""
    name = f"backend-lab-test-jaeger-{query}"
    words = ["docker", "run", "--rm", "-d", "--name", name, "-p", f"127.0.0.1:{query}:{query}", "-p", f"127.0.0.1:{otlp}:{otlp}",
             "-e", f"QUERY_ENDPOINT=0.0.0.0:{query}", "-e", f"OTLP_HTTP_ENDPOINT=0.0.0.0:{otlp}",
             "-v", f"{ROOT}/infra/jaeger:/etc/jaeger:ro", IMAGE, "--config=/etc/jaeger/config.yaml"]  # fmt: skip
    engine.run(words)
    try:
        yield
    finally:
        engine.run(["docker", "rm", "-f", name])


@contextmanager
def own_receiver(query: int, otlp: int) -> Iterator[None]:
    env = {"PATH": "/usr/bin:/bin", "HTTP_PORT": str(query), "OTLP_HTTP_PORT": str(otlp)}
    process = subprocess.Popen(
        [sys.executable, "-m", "labs.console.otlp"], env=env, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def export() -> bytes:
    now = time.time_ns()
    pay = span(7, 1, start=now, end=now + 1_000_000, name="POST /v1/payments")
    pay.attributes.append(KeyValue(key="http.response.status_code", value=AnyValue(int_value=201)))
    charge = span(7, 2, start=now + 10, end=now + 900_000, name="POST /v1/charges", kind=3)
    charge.parent_span_id = pay.span_id
    charge.links.add(trace_id=trace_id(9), span_id=b"12345678")
    return bytes(request(charge, pay).SerializeToString())


async def ask(session: aiohttp.ClientSession, port: int, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
    async with session.get(f"http://127.0.0.1:{port}/api/v3/{path}", params=query) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


def essence(body: Any) -> list[dict[str, Any]]:
    """What a reader of spans relies on, without what a store may add or leave out."""
    keys = ("traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano")
    found = []
    for part in body["result"]["resourceSpans"]:
        service = {each["key"]: each["value"] for each in part["resource"]["attributes"]}["service.name"]
        for scope in part["scopeSpans"]:
            for each in scope["spans"]:
                links = [(link["traceId"], link["spanId"]) for link in each.get("links", ())]
                shown = {key: each[key] for key in keys} | {"parent": each.get("parentSpanId", ""), "links": links}
                own = [a for a in each.get("attributes", ()) if a["key"].startswith("http.")]
                found.append(shown | {"service": service, "attributes": own})
    return sorted(found, key=lambda each: str(each["spanId"]))


async def test_both_answer_alike() -> None:
    theirs, their_otlp, ours, our_otlp = free_ports(4)
    body, answers = export(), []
    with real_jaeger(theirs, their_otlp), own_receiver(ours, our_otlp):
        async with client() as session:
            for port, otlp in ((theirs, their_otlp), (ours, our_otlp)):

                async def taken(otlp: int = otlp) -> bool:
                    try:
                        url = f"http://127.0.0.1:{otlp}/v1/traces"
                        async with session.post(url, data=body, headers=PROTOBUF) as answer:
                            return answer.status == 200
                    except aiohttp.ClientError:
                        return False

                async def there(port: int = port) -> bool:
                    return (await ask(session, port, f"traces/{trace_id(7).hex()}", {}))[0] == 200

                await until(taken, what="the export")
                await until(there, what="the trace")
                _, one = await ask(session, port, f"traces/{trace_id(7).hex()}", {})
                _, found = await ask(session, port, "traces", ALL)
                _, services = await ask(session, port, "services", {})
                _, operations = await ask(session, port, "operations", {"service": "payments-api"})
                none_status, none = await ask(session, port, f"traces/{trace_id(8).hex()}", {})
                wrong_status, wrong = await ask(session, port, "traces", {"query.service_name": "payments-api"})
                answers.append(
                    {
                        "one": essence(one),
                        "found": essence(found),
                        "services": services,
                        "operations": sorted(operations["operations"], key=str),
                        "none": (none_status, none["error"]["httpCode"]),
                        "wrong": (wrong_status, wrong["error"]["httpCode"]),
                    }
                )
    assert answers[0] == answers[1]
