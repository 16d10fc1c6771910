from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.catalog.ndjson import Line, LineSplitter


def split(pieces: list[bytes], longest: int = 10, first: int = 1) -> list[Line]:
    splitter = LineSplitter(longest, first)
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return [*lines, *splitter.close()]


def test_lines_are_numbered_from_the_first_one_on() -> None:
    assert split([b"a\nb\n"]) == [Line(1, b"a"), Line(2, b"b")]
    assert split([b"a"], first=7) == [Line(7, b"a")]


def test_empty_lines_count_and_both_ends_of_line_are_taken() -> None:
    assert split([b"a\r\n\n\r\nb"]) == [Line(1, b"a"), Line(2, b""), Line(3, b""), Line(4, b"b")]


def test_a_line_that_is_too_long_is_told_and_the_next_one_is_whole() -> None:
    assert split([b"x" * 11 + b"\n", b"y" * 10 + b"\r\n", b"z" * 500, b"z", b"\nlast"]) == [
        Line(1, None),
        Line(2, b"y" * 10),
        Line(3, None),
        Line(4, b"last"),
    ]


def test_a_line_too_long_at_the_end_of_the_stream_is_told() -> None:
    assert split([b"ok\n", b"x" * 500]) == [Line(1, b"ok"), Line(2, None)]


def test_it_never_holds_more_than_a_line() -> None:
    splitter = LineSplitter(100)
    for _ in range(1_000):
        assert list(splitter.feed(b"x" * 50)) == []
        assert len(splitter._held) <= 101


@given(
    st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line and not line.endswith(b"\r")), max_size=20),
    st.data(),
)
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected = [Line(number, line if len(line) <= 10 else None) for number, line in enumerate(lines, 1)]
    assert split(pieces) == expected
