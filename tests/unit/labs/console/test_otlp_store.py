"""What the trace store keeps, in which order it drops, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from labs.console.otlp_store import Bounds, Query, TraceStore

FOREVER = Query(0, 2**62, limit=1000)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span(trace: int, number: int = 1, *, start: int = 1000, end: int = 2000, name: str = "work", kind: int = 2) -> Span:
    return Span(
        trace_id=trace_id(trace),
        span_id=number.to_bytes(8, "big"),
        name=name,
        kind=kind,  # type: ignore[arg-type]  # any number may come
        start_time_unix_nano=start,
        end_time_unix_nano=end,
    )


def request(*spans: Span, service: str | None = "payments-api") -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    part = made.resource_spans.add()
    if service is not None:
        named = part.resource.attributes.add(key="service.name")
        named.value.string_value = service
    part.scope_spans.add().spans.extend(spans)
    return made


def found(store: TraceStore, query: Query = FOREVER) -> list[int]:
    return [int.from_bytes(each.id, "big") for each in store.find(query)]


def test_a_traces_spans_come_in_order_of_their_start_with_the_parent_first() -> None:
    store = TraceStore()
    store.add(request(span(1, 3, start=50, end=60), span(1, 2, start=10, end=20)))
    store.add(request(span(1, 1, start=10, end=99), service="checkout-api"))
    trace = store.trace(trace_id(1))
    assert trace is not None
    assert [Span.FromString(each.span).span_id[-1] for each in trace.in_order()] == [1, 2, 3]
    assert store.services() == ["checkout-api", "payments-api"]


def test_a_span_that_is_sent_twice_is_kept_once() -> None:
    store = TraceStore()
    assert store.add(request(span(1), span(1))) == 0
    assert store.add(request(span(1))) == 0
    assert store.spans == 1


def test_the_oldest_trace_makes_room_for_a_new_one() -> None:
    store = TraceStore(Bounds(spans=4))
    store.add(request(span(1, 1, start=9000), span(1, 2, start=9000)))
    store.add(request(span(2, 1, start=1), span(2, 2, start=1)))
    store.add(request(span(3, 1, start=5)))
    assert found(store) == [3, 2]
    assert (store.spans, store.dropped) == (3, 1)


def test_bytes_are_bounded_like_spans() -> None:
    one = len(span(1).SerializeToString())
    store = TraceStore(Bounds(bytes=2 * one))
    for number in (1, 2, 3):
        store.add(request(span(number)))
    assert sorted(found(store)) == [2, 3]
    assert store.bytes == 2 * one


def test_after_an_hour_a_trace_is_gone_even_if_nothing_new_comes() -> None:
    clock = Clock()
    store = TraceStore(Bounds(seconds=3600), clock)
    store.add(request(span(1)))
    clock.now = 3600.0
    assert found(store) == [1]
    clock.now = 3600.1
    assert store.trace(trace_id(1)) is None
    assert (store.spans, store.bytes, store.services()) == (0, 0, [])


def test_a_trace_without_end_is_cut_and_does_not_drive_out_the_others() -> None:
    store = TraceStore(Bounds(spans=100, spans_of_trace=10))
    store.add(request(span(1)))
    assert store.add(request(*(span(2, number) for number in range(1, 31)))) == 20
    assert sorted(found(store)) == [1, 2]


def test_spans_without_valid_ids_or_of_great_length_are_refused() -> None:
    store = TraceStore(Bounds(bytes_of_span=1000))
    bad = [span(1), span(1), span(1), span(1), span(1, name="x" * 2000)]
    bad[0].trace_id, bad[1].trace_id, bad[2].span_id, bad[3].span_id = b"", bytes(16), b"short", bytes(8)
    assert store.add(request(*bad, span(7))) == 5
    assert found(store) == [7]


def test_a_resource_without_a_name_is_an_unknown_service() -> None:
    store = TraceStore()
    store.add(request(span(1), service=None))
    store.add(request(span(2), service=""))
    assert store.services() == ["unknown_service"]


def test_a_query_asks_for_one_span_that_fits_all_of_it() -> None:
    store = TraceStore()
    store.add(request(span(1, start=1000, end=3000, name="pay"), span(1, 2, start=1000, end=9000, name="charge")))
    store.add(request(span(2, start=5000, end=5100, name="pay"), service="checkout-api"))
    assert found(store, Query(0, 9999, service="payments-api")) == [1]
    assert found(store, Query(0, 9999, operation="pay")) == [2, 1]
    assert found(store, Query(0, 9999, service="checkout-api", operation="charge")) == []
    assert found(store, Query(2000, 9999)) == [2]
    assert found(store, Query(0, 2000)) == [1]
    assert found(store, Query(0, 9999, shortest=2000, operation="pay")) == [1]
    assert found(store, Query(0, 9999, longest=500)) == [2]
    assert found(store, Query(0, 9999, limit=1)) == [2]


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(0, 100)), max_size=8), max_size=12),
    st.integers(1, 20),
)
def test_whatever_comes_the_bounds_hold_and_the_counts_agree(
    batches: list[list[tuple[int, int, int]]], bound: int
) -> None:
    store = TraceStore(Bounds(spans=bound, spans_of_trace=4))
    for batch in batches:
        store.add(request(*(span(trace, number, start=start) for trace, number, start in batch)))
        traces = store.find(FOREVER)
        assert store.spans == sum(len(each.spans) for each in traces) <= bound
        assert store.bytes == sum(len(one.span) for each in traces for one in each.spans.values())
        assert all(len(each.spans) <= 4 for each in traces)
