"""`evaluate` from its command line: what it refuses, and what it says when nothing can be measured."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from services.search.evaluation.command import NOT_MEASURED, add_arguments, run
from services.search.evaluation.finder import measured
from services.search.evaluation.judged import Event, Judged
from services.search.ranking import Kind

NOBODY = "http://127.0.0.1:1"
ONE, OTHER = str(UUID(int=1)), str(UUID(int=2))


def evaluate(*arguments: str) -> int:
    parser = ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(arguments), nodes=[NOBODY], alias="products")


@pytest.mark.parametrize(
    "arguments", [("--variant", "best"), ("--at-most", "2"), ("--at-most", "-1"), ("--at-most", "x"), ("--colour",)]
)
def test_impossible_arguments_are_usage_errors(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        evaluate(*arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "The search engine did not answer"),
        (("--judged", "none.jsonl"), "none.jsonl cannot be read"),
        (("--against", "none.json"), "none.json cannot be read"),
        (("--rules", "none.jsonl"), "No such file"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*arguments) == NOT_MEASURED
    told = capsys.readouterr().err
    assert told.startswith("Nothing was measured: ")
    assert says in told


def test_rules_that_are_wrong_name_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.jsonl").write_text('{"id": "x", "action": "praise"}\n')
    assert evaluate("--rules", str(tmp_path / "rules.jsonl")) == NOT_MEASURED
    assert "rules.jsonl, line 1" in capsys.readouterr().err


class Fixed:
    """Finds what it was told to."""

    def __init__(self, answers: Mapping[str, Sequence[str]]) -> None:
        self.answers = answers

    async def find(self, judged: Judged, limit: int) -> list[str]:
        assert limit >= 100
        return list(self.answers.get(judged.query, ()))


async def test_each_query_has_its_row_in_order() -> None:
    queries = [
        Judged("lamp", "noun", "en", {ONE: 3}, wanted=ONE),
        Judged("desk", "noun", "en", {OTHER: 3}),
        Judged("sofa", "noun", "en", {ONE: 2}),
    ]
    rows = await measured(Fixed({"lamp": [OTHER, ONE], "desk": [OTHER]}), queries)
    assert [(each.query, each.reciprocal_rank, each.zero, each.wanted) for each in rows] == [
        ("lamp", 0.5, False, 0.5), ("desk", 1.0, False, None), ("sofa", 0.0, True, None),
    ]  # fmt: skip


def test_a_history_is_told_in_days_before_the_query() -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    judged = Judged("x", "noun", "en", {ONE: 3}, history=[Event(Kind.CLICK, 7, "home", 9.0)])
    (event,) = judged.interactions(now)
    assert (event.brand_id, event.at) == (7, datetime(2026, 1, 1, tzinfo=UTC))
