"""Spans really leave the process by OTLP over HTTP, with the parent that the header named."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROGRAM = f"""
import sys
from services.kit import tracing
tracing.configure("payments-api", sys.argv[1])
with tracing.span("POST /v1/payments", "server", parent={PARENT!r}):
    with tracing.span("bank", "client", attributes={{"http.request.method": "POST"}}):
        print(tracing.current_traceparent())
tracing.shutdown()
"""
LOADED = """import sys
from services.kit import http
print(any(name.startswith("opentelemetry.sdk") for name in sys.modules))
"""


class Collector(ThreadingHTTPServer):
    """Keeps what is posted to /v1/traces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receive)
        self.requests: list[tuple[str, bytes]] = []


class Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_arrive_with_their_parents(collector: Collector) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    done = subprocess.run([sys.executable, "-c", PROGRAM, endpoint], capture_output=True, text=True, check=True)
    spans = {}
    for path, body in collector.requests:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            spans.update({span.name: span for scope in resource.scope_spans for span in scope.spans})
    server, client = spans["POST /v1/payments"], spans["bank"]
    assert server.trace_id.hex() == client.trace_id.hex() == PARENT[3:35]
    assert server.parent_span_id.hex() == PARENT[36:52]
    assert client.parent_span_id == server.span_id
    assert done.stdout.strip() == f"00-{client.trace_id.hex()}-{client.span_id.hex()}-01"


def test_switched_off_the_sdk_is_not_even_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
