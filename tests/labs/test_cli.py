"""The command line: what it refuses, what it lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs import __main__ as cli
from labs.engine import discover


def test_no_command_and_wrong_values_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["run"], ["run", "--week", "two"], ["run", "--week", "2", "--rate", "0"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2
    assert "is not between 0 and 100000" in capsys.readouterr().err


def test_a_lab_that_does_not_exist_is_a_usage_error_that_names_those_that_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["run", "--week", "2", "--day", "9"]) == 2
    assert "there is no lab for week 2 day 9; there are: " in capsys.readouterr().err


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
    from labs.engine.planning import plan_of
    from labs.engine.schedule import end_of
    from labs.engine.timing import plan

    lab = discover.load(module)
    trials = sum(not variant.on_request for variant in lab.variants.values()) * len(lab.all_scenarios())
    for short in (False, True):
        timing = plan(lab.load, short=short)
        assert timing.expected(trials) <= timing.budget * max(1, trials / 2)
        for scenario in lab.all_scenarios():
            planned = plan_of(lab, scenario, scale=timing.scale, short=short)
            assert end_of(planned.scenario.faults) <= timing.inject + 1
            assert planned.scenario.invariants
