"""A receiver's span belongs to the delivery that it was sent, and says how it ended."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind

from services.simulators.receivers.hooks import _server_span
from tests.unit.kit.recorded_spans import recorded

SENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_delivery_is_the_parent() -> None:
    with recorded() as exporter:
        _server_span({b"traceparent": SENT}).end()
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("POST /r/{receiver}", SpanKind.SERVER)
    assert span.parent is not None
    assert span.parent.span_id == int(SENT[36:52], 16)


@pytest.mark.parametrize(
    "headers", [{}, {b"traceparent": b""}, {b"traceparent": b"\xff\xfe"}, {b"traceparent": SENT + b"x"}]
)
def test_without_a_readable_traceparent_a_trace_begins(headers: dict[bytes, bytes]) -> None:
    with recorded() as exporter:
        _server_span(headers).end()
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
