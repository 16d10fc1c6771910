"""The lab that others are copied from: found by its name alone, planned within its promise, complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labs import __main__ as cli
from labs.engine import discover
from labs.engine.model import VariantRole
from labs.engine.planning import day_seconds, plans_of
from labs.engine.timing import plan
from tests.documents import compose

FOLDER = discover.ROOT / "labs" / "template"
(LAB,) = discover.labs(discover.TEMPLATE)


def test_it_is_no_week_of_the_course(capsys: pytest.CaptureFixture[str]) -> None:
    assert not [name for name in discover.modules() if "template" in name]
    assert LAB.name not in [lab.name for lab in discover.labs()]
    assert cli.main(["list"]) == 0
    assert LAB.name not in capsys.readouterr().out


def test_a_day_that_it_does_not_have_is_a_usage_error_that_names_the_one_it_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["run", "--week", "template", "--day", "2"]) == 2
    assert "there are: week00-day1" in capsys.readouterr().err


@pytest.mark.parametrize("short", [False, True])
def test_it_is_planned_within_its_promise(short: bool) -> None:
    timing = plan(LAB.load, short=short)
    assert day_seconds(LAB, timing, short=short) <= timing.budget
    assert plans_of(LAB, timing, short=short)


def test_it_has_all_that_a_day_has() -> None:
    assert [variant.role for variant in LAB.variants.values()] == [
        VariantRole.NAIVE,
        VariantRole.ENGINEERED,
        VariantRole.ENGINEERED,
    ]
    assert LAB.variants["yours"].on_request
    assert LAB.found is not None
    assert LAB.story is not None
    assert len(LAB.try_next) == 3
    assert (FOLDER / "README.md").is_file()


def test_a_copy_needs_no_other_change_than_its_names() -> None:
    """What CONTRIBUTING.md lets sed replace is all that ties the folder to its place."""
    ours = {name: body for name, body in compose()["services"].items() if name.startswith("week00-day1-")}
    assert set(ours) == {one for variant in LAB.variants.values() for one in variant.processes}
    assert {body["command"][2].rpartition(".")[0] for body in ours.values()} == {"labs.template"}
    for path in FOLDER.glob("*.py"):
        assert not dangling(path)


def dangling(path: Path) -> list[str]:
    """Mentions of the place that the replacements of CONTRIBUTING.md leave behind."""
    text = path.read_text("utf-8")
    for old, new in (
        ("labs.template", "labs.week03"),
        ("labs/template", "labs/week03"),
        ("week00", "week03"),
        ("week=0", "week=3"),
        ("week=template", "week=3"),
    ):
        text = text.replace(old, new)
    return re.findall(r"\btemplate\b.*", text.partition('"""\n')[2])
