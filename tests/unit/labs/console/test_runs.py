from __future__ import annotations

from pathlib import Path

import pytest

from labs.console.runs import NoSuchFile, Runs
from labs.engine.run import Options
from tests.labs.fake_world import FakeLab

MODULES = ("labs.week02.day2_idempotency",)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run = tmp_path / ".lab" / "runs" / "week02-day2" / "20260101T000000Z-seed1"
    (run / "raw").mkdir(parents=True)
    (run / "report.html").write_text("<h1>Report</h1>")
    (run / "history.jsonl").write_text("{}\n")
    (run / "raw" / "a.log").write_text("x")
    (run / "keep").write_text("")
    (run.parent / "latest").symlink_to(run.name)
    (tmp_path / ".env").write_text("SECRET=1")
    return tmp_path


@pytest.mark.parametrize("run", ["20260101T000000Z-seed1", "latest"])
def test_files_of_a_run_are_served_with_their_types(root: Path, run: str) -> None:
    runs = Runs(root, MODULES)
    assert runs.file("week02-day2", run, "report.html")[1] == "text/html; charset=utf-8"
    assert runs.file("week02-day2", run, "history.jsonl")[1] == "text/plain; charset=utf-8"
    assert runs.file("week02-day2", run, "raw/a.log")[0].read_text() == "x"


@pytest.mark.parametrize(
    ("lab", "run", "path"),
    [
        ("..", "..", ".env"),
        ("week02-day2", "latest", "../../../../.env"),
        ("week02-day2", "latest", "raw/../../../../.env"),
        ("week02-day2", "..", "x.html"),
        ("week02-day2", "latest", ""),
        ("week02-day2", "latest", "raw"),
        ("week02-day2", "latest", "keep"),
        ("week02-day2", "latest", "/etc/passwd"),
        ("week02-day2", "latest", "none.html"),
        ("week02-day2", "latest", "report.html\x00"),
        ("week02-day2", "latest", "a/b/c/d/e/f.html"),
        ("week02-day2", ".latest", "report.html"),
        ("x" * 300, "latest", "report.html"),
    ],
)
def test_nothing_else_is(root: Path, lab: str, run: str, path: str) -> None:
    with pytest.raises(NoSuchFile):
        Runs(root, MODULES).file(lab, run, path)


def test_a_link_out_of_the_runs_is_not_followed(root: Path) -> None:
    (root / ".lab" / "runs" / "week02-day2" / "latest" / "out.txt").symlink_to(root / ".env")
    with pytest.raises(NoSuchFile):
        Runs(root, MODULES).file("week02-day2", "latest", "out.txt")


def test_a_lab_that_never_ran_and_damaged_runs_are_listed_without_a_result(root: Path) -> None:
    folder = root / ".lab" / "runs" / "week02-day2" / "latest"
    for text in (None, "{", '{"schema": 9}'):
        if text is not None:
            (folder / "verdict.json").write_text(text)
            (folder / "experiment.json").write_text(text)
        (day,) = Runs(root, MODULES).days()
        assert day.last is None
        assert day.title == "Idempotency"
        assert ("yours", "compared", True) in [
            (name, role, asked) for name, role, asked in day.variants
        ] or day.variants


def test_a_module_that_cannot_be_read_does_not_hide_the_others(root: Path) -> None:
    days = Runs(root, ("labs.week03.day1_none", *MODULES)).days()
    assert (days[0].week, days[0].day) == (3, 1)
    assert "cannot be read" in days[0].problem
    assert days[1].problem == ""


@pytest.mark.slow
async def test_prediction_and_observation_of_a_real_run_are_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeLab(tmp_path)
    lab = fake.lab()
    await fake.run(lab, Options(predict="half of them"))
    monkeypatch.setattr("labs.engine.discover.load", lambda module: lab)
    (day,) = Runs(tmp_path, ("fake",)).days()
    assert day.last is not None
    assert day.last.prediction == "half of them"
    assert (day.last.verdict, day.last.says) == ("pass", "The claim held.")
    naive = next(one for one in day.last.outcomes if one.name == "naive")
    assert naive.broken[0][0] == "exactly_once"
    assert naive.broken[0][1] >= 5
    assert day.last.report == f"/reports/week09-day9/{day.last.run}/report.html"
    assert [one.run for one in day.history] == [day.last.run]
