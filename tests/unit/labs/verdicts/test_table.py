"""The Markdown of the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labs.engine.discover import ROOT, labs
from labs.engine.model import Verdict
from labs.verdicts.record import Held
from labs.verdicts.table import (
    BEGIN,
    END,
    broken_cell,
    columns_of,
    first_question,
    held_cell,
    inserted,
    markdown,
    page_of,
    verdict_cell,
)
from tests.unit.labs.verdicts.runs import broken, fact

(DAY,) = labs(2, 2)


def test_a_day_is_a_line_with_its_question_what_broke_and_a_verdict_for_each_seed() -> None:
    records = [fact(seed=7, seconds=157, naive=[broken("charged_exactly_once", 172)]), fact(), fact(runtime="docker")]
    head, rule, line, total, *_ = markdown(records, [DAY], ROOT).splitlines()
    assert head.endswith("| native, seed 7 | native, seed 42 | docker, seed 42 |")
    assert head.count("|") == rule.count("|") == line.count("|") == total.count("|")
    assert "[Idempotency](labs/week02/README.md#day-2-idempotency): How often is the customer charged?" in line
    assert line.endswith("| `charged_exactly_once` 156–172 | 7 of 7 | pass 157 s | pass 152 s | pass 152 s |")
    assert total.endswith("| 1 of 1 pass, 3 min | 1 of 1 pass, 3 min | 1 of 1 pass, 3 min |")


def test_a_day_that_was_never_run_is_there_and_a_lab_that_is_gone_is_not() -> None:
    text = markdown([fact(), fact(lab="week09-day1", seed=7)], [replace(DAY, day=4), DAY], ROOT)
    assert "| – | – | – |" in text.splitlines()[2]
    assert "seed 7" not in text
    assert "week09" not in text


def test_runs_on_stand_ins_for_official_images_are_told() -> None:
    assert "stand-ins" not in markdown([fact()], [DAY], ROOT)
    told = markdown([fact(), fact(runtime="docker", stand_ins=["postgres:17.6"])], [DAY], ROOT)
    assert told.endswith("On stand-ins for official images, named there: 1 of the runs under Docker.")


def test_without_any_run_the_table_says_how_to_make_one() -> None:
    assert markdown([], [DAY], ROOT).endswith("No whole run yet: `make lab week=all`, then `make verdicts`.")


def test_three_seeds_of_a_runtime_are_shown_those_of_most_days_and_native_first() -> None:
    many = [fact(seed=seed) for seed in (1, 2, 3, 42)] + [fact(lab="week02-day1", seed=seed) for seed in (3, 42)]
    assert columns_of([fact(runtime="docker"), *many]) == [("native", 1), ("native", 3), ("native", 42), ("docker", 42)]


def test_a_seed_of_few_days_has_no_column() -> None:
    everyday = [fact(lab=f"week02-day{day}") for day in (1, 2, 3)]
    assert columns_of([*everyday, fact(seed=101)]) == [("native", 42)]


def test_a_verdict_other_than_pass_is_set_in_bold() -> None:
    assert verdict_cell(fact(verdict=Verdict.UNKNOWN)) == "**unknown** 152 s"
    assert verdict_cell(None) == "–"


def test_violations_of_several_scenarios_and_invariants_are_told_as_ranges() -> None:
    first = fact(naive=[broken("a", 4), broken("b", 1200, scenario="other")])
    assert broken_cell([first, fact(naive=[broken("a", 90)])]) == "`a` 4–90, `b` 1,200"
    assert broken_cell([fact(naive=[], verdict=Verdict.FAIL)]) == "nothing"


def test_held_is_that_of_the_worst_run_and_of_equals_the_newest() -> None:
    old = fact(engineered=Held(held=6, judged=6))
    new = fact(engineered=Held(held=8, judged=8), started_at="2026-04-01T00:00:00Z")
    assert held_cell([old, new]) == "8 of 8"
    assert held_cell([old, new, fact(engineered=Held(held=5, judged=7))]) == "5 of 7"


def test_the_question_is_the_first_sentence_that_asks() -> None:
    assert first_question("A is. How much, from 0 (bad) to 1 (good)? And why?") == "How much, from 0 (bad) to 1 (good)?"
    assert first_question("Titles `LIKE '%...%'` are slow. Why?") == "Why?"
    assert first_question("Nobody asks.") == "Nobody asks."


def test_a_day_without_a_heading_on_its_page_is_linked_to_the_page_itself(tmp_path: Path) -> None:
    assert page_of(DAY, tmp_path) == "labs/week02/README.md"
    (tmp_path / "labs" / "week02").mkdir(parents=True)
    (tmp_path / "labs" / "week02" / "README.md").write_text(
        "# Week 2\n\n## Day 20: no\n\n## Day 2: It `works`, twice!\n"
    )
    assert page_of(DAY, tmp_path) == "labs/week02/README.md#day-2-it-works-twice"


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert inserted(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert inserted(inserted(page, "new"), "new") == inserted(page, "new")


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_the_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each and in this order"):
        inserted(page, "new")
