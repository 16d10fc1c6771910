"""A dead letter is the message as it came, and why and whence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.patterns.dlq import MAX_DETAIL, DeadLetter, Unprocessable

HEADERS = st.lists(st.tuples(st.text(min_size=1), st.binary()), max_size=5).map(tuple)


@given(key=st.none() | st.binary(), value=st.none() | st.binary(), headers=HEADERS)
def test_the_message_stays_as_it_came_and_its_origin_stands_behind_its_own_headers(
    key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]
) -> None:
    letter = DeadLetter(key, value, headers, "topic", 3, 17, "malformed_body", "why")
    parked = letter.parked_headers()
    assert tuple(parked[: len(headers)]) == headers
    assert dict(parked[len(headers) :]) == {
        "dlq_topic": b"topic",
        "dlq_partition": b"3",
        "dlq_offset": b"17",
        "dlq_reason": b"malformed_body",
        "dlq_detail": b"why",
    }
    assert (letter.key, letter.value) == (key, value)


def test_a_long_detail_is_cut() -> None:
    assert len(Unprocessable("reason", "x" * 10_000).detail) == MAX_DETAIL
