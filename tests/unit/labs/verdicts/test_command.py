"""`make verdicts` on a checkout of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.engine.discover import labs
from labs.verdicts.__main__ import main
from labs.verdicts.record import load, text_of
from labs.verdicts.table import BEGIN, END
from tests.unit.labs.verdicts.runs import fact, plant

DAYS = labs(2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"# A page\n\n{BEGIN}\n{END}\n\nThe end.\n")
    return tmp_path


def verdicts(root: Path, *arguments: str) -> int:
    return main(arguments, root=root, labs=DAYS)


def test_planted_runs_are_merged_into_what_is_kept_and_the_page_is_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(root / ".lab" / "runs")
    assert verdicts(root) == 0
    assert load(root / "docs" / "verdicts.json") == [fact()]
    assert "pass 152 s" in (root / "README.md").read_text()
    elsewhere = root / "elsewhere"
    plant(elsewhere, started_at="2026-03-05T00:00:00+00:00", seconds=149.2)
    plant(elsewhere, seed=7)
    plant(elsewhere, seed=8, experiment={"short": True})
    assert verdicts(root, "--runs", str(elsewhere)) == 0
    newer = fact(started_at="2026-03-05T00:00:00Z", seconds=149)
    assert load(root / "docs" / "verdicts.json") == [fact(seed=7), newer]
    page = (root / "README.md").read_text()
    assert "pass 149 s" in page
    assert page.startswith("# A page\n\n<!-- verdicts -->\n| week |")
    assert page.endswith("<!-- /verdicts -->\n\nThe end.\n")
    assert "2 new of 2 runs" in capsys.readouterr().out


def test_a_fresh_clone_without_runs_writes_the_table_from_what_is_kept(root: Path) -> None:
    (root / "docs" / "verdicts.json").write_text(text_of([fact()]))
    assert verdicts(root) == 0
    assert load(root / "docs" / "verdicts.json") == [fact()]
    assert "pass 152 s" in (root / "README.md").read_text()


def test_an_older_run_changes_nothing_and_running_it_again_neither(root: Path) -> None:
    plant(root / ".lab" / "runs")
    verdicts(root)
    before = [(root / name).read_text() for name in ("docs/verdicts.json", "README.md")]
    plant(root / "old", started_at="2026-01-01T00:00:00+00:00", verdict="fail")
    assert verdicts(root, "--runs", str(root / "old"), "--runs", str(root / ".lab" / "runs")) == 0
    assert [(root / name).read_text() for name in ("docs/verdicts.json", "README.md")] == before


def test_a_lab_that_is_gone_leaves_the_file(root: Path) -> None:
    plant(root / ".lab" / "runs", lab="week03-day1")
    assert verdicts(root) == 0
    assert load(root / "docs" / "verdicts.json") == []


def test_check_sees_a_page_that_was_edited_by_hand_and_writes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(root / ".lab" / "runs")
    verdicts(root)
    assert verdicts(root, "--check") == 0
    forged = (root / "README.md").read_text().replace("pass 152 s", "pass 52 s")
    (root / "README.md").write_text(forged)
    assert verdicts(root, "--check") == 1
    assert "run: make verdicts" in capsys.readouterr().err
    assert (root / "README.md").read_text() == forged


def test_a_damaged_run_is_named_and_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plant(root / ".lab" / "runs") / "verdict.json").write_text("{")
    assert verdicts(root) == 0
    assert "left out: week02-day2/20260304T050607Z-seed42" in capsys.readouterr().err


def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdicts(root, "--runs", str(root / "nowhere")) == 2
    assert "run a lab first: make lab week=all" in capsys.readouterr().err
    plant(root / ".lab" / "runs")
    (root / "docs" / "verdicts.json").write_text("{")
    assert verdicts(root) == 2
    assert "verdicts.json is damaged" in capsys.readouterr().err
    (root / "docs" / "verdicts.json").unlink()
    (root / "README.md").write_text("no markers")
    assert verdicts(root) == 2
    assert "needs the lines" in capsys.readouterr().err
    assert not (root / "docs" / "verdicts.json").exists()
    with pytest.raises(SystemExit) as stop:
        verdicts(root, "--nonsense")
    assert stop.value.code == 2
