import pytest

from services.kit import tracing

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_callers_trace_goes_on_inside_the_span_and_ends_with_it() -> None:
    with tracing.span("work", parent=GOOD):
        assert tracing.current_traceparent() == GOOD
        assert tracing.current_trace_id() == "4bf92f3577b34da6a3ce929d0e0e4736"
        with tracing.span("inner"):
            assert tracing.current_trace_id() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert tracing.current_traceparent() is None


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "garbage",
        GOOD.upper(),
        GOOD + "x",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        GOOD[:-21] + "0" * 16 + "-01",
    ],
)
def test_garbage_begins_a_new_trace(header: str | None) -> None:
    with tracing.span("work", parent=header):
        made = tracing.current_traceparent()
    assert made is not None
    assert made != header
    assert tracing.valid(made) == made
