"""Cursors: what is written is read; anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.problems import InvalidCursor
from services.search.query.build import Matching
from services.search.query.cursor import LONGEST, REMEMBERED, Cursor, Cursors, fingerprint, remembered

CURSORS = Cursors(b"key")
QUERY = fingerprint(("lamp", None))


def cursor(after: list[float | int | str | None] | None = None, shown: bytes = b"") -> Cursor:
    return Cursor("products-v1-x", Matching.LOOSELY, 1_767_225_600, "boosted", QUERY, after or [1.5, "id"], shown)


@given(
    st.lists(st.floats(allow_nan=False, width=32) | st.integers(-(2**53), 2**53) | st.text(max_size=40), max_size=3),
    st.binary(max_size=80),
)
def test_what_is_written_is_read(after: list[float | int | str | None], shown: bytes) -> None:
    wanted = cursor(after, shown)
    assert CURSORS.read(CURSORS.write(wanted), QUERY) == wanted


def test_another_key_another_query_and_another_letter_are_refused() -> None:
    text = CURSORS.write(cursor())
    for keys, query, typed in (
        (Cursors(b"other"), QUERY, text),
        (CURSORS, fingerprint(("desk", None)), text),
        (CURSORS, QUERY, text[:9] + ("A" if text[9] != "A" else "B") + text[10:]),
        (CURSORS, QUERY, text[:-4]),
    ):
        with pytest.raises(InvalidCursor):
            keys.read(typed, query)


@given(st.text(max_size=60) | st.text("ABCabc012-_", max_size=100))
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.read(text, QUERY)


def test_what_was_shown_is_known_and_a_cursor_stays_small() -> None:
    shown = b""
    for page in range(20):
        shown = remembered(shown, (f"product {page} {place}" for place in range(100)))
    latest = cursor(shown=shown)
    assert len(shown) == 4 * REMEMBERED
    assert latest.has_shown("product 19 99")
    assert not latest.has_shown("product 0 0")
    assert not latest.has_shown("another product")
    assert len(CURSORS.write(latest)) < LONGEST
