from __future__ import annotations

import msgspec
import pytest

from labs.console.traces import TRACE_ID, Traces, traces_of

A, B, C, D = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)


def span(own: str, parent: str, start: int, end: int, **more: object) -> dict[str, object]:
    times = {"startTimeUnixNano": str(start * 1_000_000), "endTimeUnixNano": str(end * 1_000_000)}
    return {"traceId": "1" * 32, "spanId": own, "parentSpanId": parent, "name": f"span {own[0]}", **times, **more}


def found(*spans: tuple[str, dict[str, object]]) -> Traces:
    parts = [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeSpans": [{"scope": {"name": "x"}, "spans": [one]}],
        }
        for service, one in spans
    ]
    return msgspec.convert({"resourceSpans": parts}, Traces)


def test_spans_are_in_order_with_children_below_their_parent() -> None:
    (trace,) = traces_of(
        found(("bank", span(D, B, 30, 40)), ("payments", span(B, A, 10, 60)), ("checkout", span(A, "", 0, 100)), ("payments", span(C, A, 5, 8)))
    )  # fmt: skip
    assert [(one.id, one.depth, one.offset, one.duration) for one in trace.spans] == [
        (A, 0, 0, 100), (C, 1, 5, 3), (B, 1, 10, 50), (D, 2, 30, 10),
    ]  # fmt: skip
    assert (trace.name, trace.service, trace.duration) == ("span a", "checkout", 100)
    assert trace.services == ("checkout", "payments", "bank")


def test_a_span_whose_parent_is_not_here_is_a_root() -> None:
    (trace,) = traces_of(found(("relay", span(B, C, 0, 1)), ("webhooks", span(D, "", 5, 9))))
    assert [(one.id, one.depth) for one in trace.spans] == [(B, 0), (D, 0)]


@pytest.mark.parametrize("spans", [((A, A),), ((A, B), (B, A))])
def test_spans_that_are_their_own_parents_end_the_walk(spans: tuple[tuple[str, str], ...]) -> None:
    (trace,) = traces_of(found(*(("x", span(own, parent, 0, 1)) for own, parent in spans)))
    assert len(trace.spans) == len(spans)


def test_a_clock_that_ran_backwards_makes_no_negative_duration() -> None:
    (trace,) = traces_of(found(("x", span(A, "", 10, 5))))
    assert trace.spans[0].duration == 0


def test_kind_status_links_and_values_of_every_type_are_read() -> None:
    values = [
        ("s", {"stringValue": "POST"}),
        ("i", {"intValue": "201"}),
        ("b", {"boolValue": False}),
        ("n", {}),
        ("d", {"doubleValue": 0.5}),
    ]
    attributes = [{"key": key, "value": value} for key, value in values]
    more = {
        "attributes": attributes, "kind": 5, "status": {"code": 2, "message": "timed out"},
        "links": [{"traceId": "2" * 32, "spanId": B}], "events": [{"name": "retry", "timeUnixNano": "12000000"}],
    }  # fmt: skip
    (trace,) = traces_of(found(("x", span(A, "", 10, 20, **more)), ("y", span(B, A, 11, 12, kind="SPAN_KIND_SERVER"))))
    first, second = trace.spans
    assert first.attributes == {"s": "POST", "i": "201", "b": "False", "n": "", "d": "0.5"}
    assert (first.kind, first.failed, first.message) == ("consumer", True, "timed out")
    assert first.links == ("2" * 32,)
    assert first.events == ("+2.0 ms retry",)
    assert (second.kind, second.failed, trace.failed) == ("server", False, True)


@pytest.mark.parametrize("text", ["", "1" * 31, "1" * 33, "G" * 32, "../" + "1" * 29])
def test_only_a_trace_id_is_one(text: str) -> None:
    assert TRACE_ID.fullmatch(text) is None
