"""What is recorded when tracing is on: names, parents, links, failures; and what is not."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import StatusCode

from services.kit import tracing
from tests.unit.kit.recorded_spans import recorded

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-5bf92f3577b34da6a3ce929d0e0e4736-10f067aa0ba902b7-01"


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def ids(traceparent: str) -> tuple[int, int]:
    return int(traceparent[3:35], 16), int(traceparent[36:52], 16)


def test_a_span_is_its_parents_child_and_links_to_others() -> None:
    with recorded() as exporter, tracing.span("work", "consumer", parent=GOOD, links=[OTHER, None, "garbage"]):
        pass
    span = by_name(exporter)["work"]
    assert span.parent is not None
    assert span.context is not None
    assert (span.parent.trace_id, span.parent.span_id) == ids(GOOD)
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [ids(OTHER)]


def test_a_new_trace_has_no_parent_whatever_is_under_way() -> None:
    with recorded() as exporter, tracing.span("outer", parent=GOOD), tracing.span("own", new_trace=True) as own:
        own.link(GOOD)
        own.link("garbage")
        assert tracing.current_traceparent() == own.traceparent
    spans = by_name(exporter)
    assert spans["own"].parent is None
    assert [(link.context.trace_id, link.context.span_id) for link in spans["own"].links] == [ids(GOOD)]


def test_an_exception_marks_its_span_with_its_class_and_not_its_message() -> None:
    with recorded() as exporter:
        with pytest.raises(ValueError, match="4111"), tracing.span("work"):
            raise ValueError("card 4111 1111 1111 1111")
        with pytest.raises(asyncio.CancelledError), tracing.span("left"):
            raise asyncio.CancelledError
    spans = by_name(exporter)
    for name, error in (("work", "ValueError"), ("left", "CancelledError")):
        attributes = spans[name].attributes
        assert attributes is not None
        assert attributes["error.type"] == error
        assert spans[name].status.status_code is StatusCode.ERROR
        assert spans[name].status.description is None
        assert spans[name].events == ()


def test_the_first_reason_of_a_failure_counts() -> None:
    with recorded() as exporter:
        with tracing.span("work") as span:
            span.fail("timeout")
            span.fail("ValueError")
        span.end()
    (span_seen,) = exporter.get_finished_spans()
    assert span_seen.attributes is not None
    assert span_seen.attributes["error.type"] == "timeout"


def test_a_trace_that_its_caller_does_not_keep_is_passed_on_and_not_recorded() -> None:
    unkept = GOOD[:-2] + "00"
    with recorded() as exporter, tracing.span("work", parent=unkept) as span:
        assert not span.recorded
        assert span.traceparent.startswith(GOOD[:36])
        assert span.traceparent.endswith("-00")
        assert tracing.exemplar() is None
        span.set("a", 1)
        span.rename("b")
        span.fail("c")
    assert exporter.get_finished_spans() == ()


def test_a_ratio_of_zero_keeps_what_callers_keep() -> None:
    with recorded(ParentBased(ALWAYS_OFF)) as exporter:
        with tracing.span("own"):
            pass
        with tracing.span("callers", parent=GOOD):
            assert tracing.exemplar() == {"trace_id": GOOD[3:35]}
    assert list(by_name(exporter)) == ["callers"]


def test_switched_off_a_span_only_knows_its_trace() -> None:
    with tracing.span("work", parent=GOOD, links=[OTHER], attributes={"a": 1}) as span:
        span.set("b", 2)
        span.link(OTHER)
        span.rename("c")
        span.fail("d")
        span.end()
        assert span.traceparent == GOOD
        assert not span.recorded
        assert tracing.to_link() is None
        assert tracing.exemplar() == {"trace_id": GOOD[3:35]}


def test_a_message_span_has_the_conventions_names() -> None:
    assert tracing.message("receive", "payments.payment.v1", count=3, group="webhooks.source", key=None) == {
        "messaging.system": "kafka",
        "messaging.operation.type": "receive",
        "messaging.operation.name": "poll",
        "messaging.destination.name": "payments.payment.v1",
        "messaging.batch.message_count": 3,
        "messaging.consumer.group.name": "webhooks.source",
    }


def test_an_exemplar_may_be_of_a_trace_that_is_not_under_way() -> None:
    with recorded():
        assert tracing.exemplar(OTHER) == {"trace_id": OTHER[3:35]}
        assert tracing.exemplar(OTHER[:-2] + "00") is None
        assert tracing.exemplar("garbage") is None
