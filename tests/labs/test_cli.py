"""The command line: what it refuses, what it lists."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from labs import __main__ as cli
from labs.engine import discover
from labs.engine.model import Lab
from labs.engine.run import Options


def test_no_command_and_wrong_values_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["run", "--week", "two"], ["run", "--week", "2", "--rate", "0"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2
    assert "is not between 0 and 100000" in capsys.readouterr().err


def test_a_lab_that_does_not_exist_is_a_usage_error_that_names_those_that_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["run", "--week", "2", "--day", "9"]) == 2
    assert "there is no lab for week 2 day 9; there are: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--day", "2"], "say which week: make lab week=2 day=2, or week=all"),
        (["--week", "all", "--day", "2"], "week=all runs every day as it is: leave out day, or"),
        (["--week", "all", "--variant", "naive", "--keep"], "leave out variant, keep, or"),
        (["--week", "all", "--rate", "9", "--seconds", "20", "--docs", "1000"], "leave out rate, seconds, docs, or"),
    ],
)
def test_what_fits_no_run_of_all_weeks_is_a_usage_error_that_says_what_to_leave_out(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("text", ["two", "", "ALL", "2.5", "all,2"])
def test_a_week_is_a_number_or_all(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", "--week", text])
    assert stop.value.code == 2
    assert "is neither a number of a week nor all" in capsys.readouterr().err


def test_all_weeks_are_every_day_that_is_built_in_order_with_the_options_that_fit_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[list[str], Options]] = []

    async def instead(labs: Sequence[Lab], options: Options, console: Console) -> int:
        seen.append(([lab.name for lab in labs], options))
        return 0

    monkeypatch.setattr(cli, "interruptible", instead)
    assert cli.main(["run", "--week", "all", "--seed", "7", "--short", "--predict", "-"]) == 0
    ((names, options),) = seen
    assert names == [discover.load(module).name for module in discover.modules()]
    assert names == sorted(names)
    assert len({name[:6] for name in names}) > 1
    assert (options.seed, options.short, options.predict, options.variant) == (7, True, "-", None)


def test_start_prints_what_to_try_first_and_needs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["start"]) == 0
    assert "make lab week=all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ([], "-m labs start"),
        (["short=0"], "-m labs start"),
        (["day=2"], "-m labs run --day 2"),
        (["week=all", "seed=7", "short=1"], "-m labs run --week all --seed 7 --short"),
        (["week=2", "day=2", "predict=a, b", "keep=1"], "-m labs run --week 2 --day 2 --predict a, b --keep"),
    ],
)
def test_make_lab_alone_is_the_start_page_and_anything_said_is_an_experiment(given: list[str], command: str) -> None:
    made = subprocess.run(
        ["make", "-s", "-o", "setup", "lab", "PY=echo", *given],
        cwd=discover.ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() == command


def test_list_names_every_lab_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    for module in discover.modules():
        lab = discover.load(module)
        assert lab.name in shown
        assert f"make lab week={lab.week} day={lab.day}" in shown


def test_report_says_what_to_do_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert cli.main(["report"]) == 1
    assert "run a lab first" in capsys.readouterr().out


@pytest.mark.parametrize("module", discover.modules())
def test_every_lab_can_be_planned_full_and_short_within_its_promise(module: str) -> None:
    from labs.engine.planning import day_seconds, plans_of
    from labs.engine.timing import plan

    lab = discover.load(module)
    for short in (False, True):
        timing = plan(lab.load, short=short)
        assert day_seconds(lab, timing, short=short) <= timing.budget
        for planned in plans_of(lab, timing, short=short):
            assert planned.scenario.invariants


def test_a_mistake_in_one_days_module_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = discover.load

    def load(module: str) -> Lab:
        if "day2" not in module:
            raise SyntaxError(module)
        return real(module)

    monkeypatch.setattr(discover, "load", load)
    assert [lab.name for lab in discover.labs(2, 2)] == ["week02-day2"]
