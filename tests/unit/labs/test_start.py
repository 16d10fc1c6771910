"""What `make lab` alone shows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from labs import start
from labs.engine import discover
from labs.verdicts.record import text_of
from tests.unit.labs.verdicts.runs import fact, plant

LABS = discover.labs()


def shown(root: Path, width: int = 100) -> str:
    output = io.StringIO()
    start.show(Console(file=output, width=width, force_terminal=False), LABS, root)
    return output.getvalue()


def passed(root: Path, *names: str, verdict: str = "pass") -> None:
    for name in names:
        folder = plant(root / ".lab" / "runs", lab=name, verdict=verdict)
        (folder.parent / "latest").symlink_to(folder.name)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_it_fits_a_terminal_and_names_every_day(width: int) -> None:
    text = shown(discover.ROOT, width)
    lines = text.splitlines()
    assert len(lines) <= 40
    assert all(len(line) <= width for line in lines)
    words = " ".join(text.split())
    for lab in LABS:
        assert lab.title.partition(":")[0] in words
        assert f"make lab week={lab.week}" in words
    assert "labs/week02/README.md" in words


def test_a_stranger_is_sent_to_the_first_experiment(tmp_path: Path) -> None:
    text = shown(tmp_path)
    assert "Start here:  make lab week=2 day=2" in text
    assert text.count(start.NEVER) == len(LABS)
    assert "180 s" in text


def test_whoever_has_begun_is_sent_to_the_first_day_that_has_not_passed(tmp_path: Path) -> None:
    passed(tmp_path, "week02-day2")
    passed(tmp_path, "week02-day3", verdict="fail")
    text = shown(tmp_path)
    assert "Next:  make lab week=2 day=1" in text
    passed(tmp_path, "week02-day1")
    assert "Next:  make lab week=2 day=3" in shown(tmp_path)


def test_whoever_has_done_all_is_asked_to_change_something(tmp_path: Path) -> None:
    passed(tmp_path, *(lab.name for lab in LABS))
    assert "Every day has passed here" in shown(tmp_path)


def test_the_last_verdict_is_told_and_that_not_all_variants_ran(tmp_path: Path) -> None:
    passed(tmp_path, "week02-day2")
    passed(tmp_path, "week02-day4", verdict="unknown")
    passed(tmp_path, "week07-day1")
    lines = shown(tmp_path).splitlines()
    assert next(line for line in lines if "Webhook" in line).rstrip().endswith("unknown")
    assert "pass (part)" in next(line for line in lines if "Fundamentals" in line)


def test_a_day_takes_as_long_as_its_longest_measured_run(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "verdicts.json").write_text(text_of([fact(seed=7, seconds=161), fact(seconds=151)]))
    assert "161 s" in next(line for line in shown(tmp_path).splitlines() if "Idempotency" in line)
    (tmp_path / "docs" / "verdicts.json").write_text("{")
    assert "180 s" in next(line for line in shown(tmp_path).splitlines() if "Idempotency" in line)
