"""Stands for Prometheus, Alertmanager and Jaeger at once: the same answer to everybody, in their formats."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def observers() -> Iterator[str]:
    """Base URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.dumps(_answer(parts.path, given)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _answer(path: str, given: dict[str, str]) -> object:
    match path:
        case "/api/v1/query_range":
            return _range(given)
        case "/api/v1/query":
            return _prometheus("vector", [{"metric": {"job": "payments-api"}, "value": [time.time(), "3"]}])
        case "/api/v1/query_exemplars":
            one = {"labels": {"trace_id": TRACE}, "value": "0.09", "timestamp": time.time() - 20}
            return {"status": "success", "data": [{"seriesLabels": {}, "exemplars": [one]}]}
        case "/api/v2/alerts":
            return [_alert()]
        case "/api/v3/services":
            return {"services": ["payments-api"]}
        case _:
            return _trace()


def _range(given: dict[str, str]) -> object:
    start, end, step = (float(given[name]) for name in ("start", "end", "step"))
    if given["query"].startswith("lab_"):
        fault = {"lab": "week09-day9", "variant": "naive", "fault": "kill", "target": "web"}
        values = [[end - 60 + i, "1"] for i in range(20)] if "fault" in given["query"] else []
        return _prometheus("matrix", [{"metric": fault, "values": values}] if values else [])
    values = [[start + i * step, str(i % 7)] for i in range(int((end - start) / step))]
    return _prometheus(
        "matrix", [{"metric": {"job": name}, "values": values} for name in ("payments-api", "<b>bank</b>")]
    )


def _prometheus(kind: str, result: object) -> object:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def _alert() -> object:
    told = {"summary": "Payments burn their budget", "runbook_url": "docs/retry-strategy.md"}
    labels = {"alertname": "PaymentsBurn", "severity": "page"}
    return {"labels": labels, "annotations": told, "startsAt": "2026-11-22T10:00:00Z", "status": {"state": "active"}}


def _trace() -> object:
    begun = int(time.time() * 1e9) - 5_000_000_000
    spans = [
        ("checkout-api", "aaaaaaaaaaaaaaaa", "", "POST /v1/checkouts", 0, 90),
        ("payments-api", "bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa", "POST /v1/payments", 5, 80),
        ("sim-bank", "cccccccccccccccc", "bbbbbbbbbbbbbbbb", "POST /v1/charges", 10, 60),
    ]
    return {
        "result": {
            "resourceSpans": [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                    "scopeSpans": [{"spans": [_span(span, parent, name, begun + at * 1_000_000, took * 1_000_000)]}],
                }
                for service, span, parent, name, at, took in spans
            ]
        }
    }


def _span(span: str, parent: str, name: str, start: int, took: int) -> object:
    return {
        "traceId": TRACE,
        "spanId": span,
        "parentSpanId": parent,
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + took),
        "attributes": [{"key": "http.request.method", "value": {"stringValue": "POST"}}],
        "status": {"code": 2} if parent == "" else {},
    }
