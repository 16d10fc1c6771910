"""A file of judgements is read whole, or refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.search.evaluation.judged import JudgementsWrong, read

GOOD = b'{"query": "lamp", "form": "noun", "language": "en", "grades": {"0190c0de-0000-7000-8000-000000000001": 3}}\n'


def written(folder: Path, content: bytes) -> Path:
    path = folder / "judged.jsonl"
    path.write_bytes(content)
    return path


def test_lines_are_read_and_blank_ones_passed_over(tmp_path: Path) -> None:
    (judged,) = read(written(tmp_path, b"\n" + GOOD + b"\n"))
    assert judged.query == "lamp"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no judged query"),
        (b"nonsense", "line 1: "),
        (GOOD + b"\xff\n", "line 2"),
        (GOOD.replace(b'"en"', b'"xx"'), "line 1: "),
        (GOOD.replace(b": 3}", b": 4}"), "line 1: "),
        (GOOD.replace(b": 3}", b': "3"}'), "line 1: "),
        (GOOD.replace(b'"lamp"', b'""'), "line 1: "),
        (GOOD.replace(b'"form"', b'"from"'), "line 1: "),
        (GOOD.replace(b"0190c0de", b"0190C0DE"), "is no product id"),
        (GOOD.replace(b"0190c0de-0000-7000-8000-000000000001", b"17"), "is no product id"),
        (GOOD + GOOD, "query 2 is query 1 again"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(JudgementsWrong, match=says):
        read(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JudgementsWrong, match=r"none\.jsonl cannot be read"):
        read(tmp_path / "none.jsonl")
