"""Exported judgements name every right answer, each query once, and the same ones each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.catalog.__main__ import main
from services.catalog.generate import product_id, traits
from services.catalog.judge import MOST_JUDGED, intents, judge, meant
from services.catalog.judgements import lines

OF = 1_500


def exported(queries: int = 60) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(1, queries, OF)]


def test_the_same_seed_gives_the_same_lines() -> None:
    assert list(lines(1, 30, OF)) == list(lines(1, 30, OF))
    assert list(lines(1, 30, OF)) != list(lines(2, 30, OF))


def test_each_query_is_there_once_and_every_form_comes() -> None:
    found = exported()
    assert len({(each["query"], each["language"]) for each in found}) == len(found) == 60
    assert len({each["form"] for each in found}) == 6


def test_the_product_that_was_meant_is_a_right_answer() -> None:
    for each in exported():
        grades = each["grades"]
        assert isinstance(grades, dict)
        assert grades[each["wanted"]] >= 1


def test_what_is_not_named_is_wrong() -> None:
    (wanted,) = intents(1, 1, OF)
    (judged,) = judge(1, [wanted], OF, most=None)
    named = {number for number, _ in judged.grades}
    assert all((wanted.grade(traits(1, number)) > 0) == (number in named) for number in range(OF))
    assert len(judge(1, [wanted], OF)[0].grades) == min(MOST_JUDGED, len(named))


def test_people_have_a_history_of_the_last_month() -> None:
    for each in exported(20):
        history = each["history"]
        assert isinstance(history, list)
        assert {event["kind"] for event in history} == {"view", "click", "purchase"}
        assert all(0 <= event["days_ago"] < 30 for event in history)


def test_a_query_is_about_the_product_that_it_is_drawn_from() -> None:
    for number, intent in enumerate(intents(1, 20, OF)):
        assert intent.grade(traits(1, meant(1, number, OF))) >= 1
    assert product_id(1, 0) != product_id(2, 0)


def test_the_role_writes_a_file(tmp_path: Path) -> None:
    target = tmp_path / "judged.jsonl"
    assert main(["judgements", "--products", "300", "--queries", "12", "--out", str(target)]) == 0
    assert len(target.read_text("utf-8").splitlines()) == 12


@pytest.mark.parametrize(
    "arguments",
    [("--products", "0"), ("--products", "50001"), ("--products", "x"), ("--products", "9", "--queries", "0")],
)
def test_impossible_sizes_are_usage_errors(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["judgements", *arguments])
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judgements", "--products", "9", "--out", str(tmp_path / "none" / "x")]) == 1
    assert "The judgements were not written" in capsys.readouterr().err
