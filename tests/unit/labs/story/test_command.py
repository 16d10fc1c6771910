"""`make story`: bad arguments, a stack that is not there, and the file that the console reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.runtime import RuntimeProblem, ServiceStatus
from labs.story import __main__ as command
from labs.story import record
from labs.story.__main__ import NEEDED, PROFILE, line, main
from labs.story.follow import new_story
from labs.story.house import require_started
from labs.story.record import Station


@pytest.mark.parametrize("quantity", ["0", "101", "-1", "1.5", "many", "", "9" * 40])
def test_a_quantity_that_nobody_buys_is_refused(quantity: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--quantity={quantity}"])
    assert ended.value.code == 2
    assert "no whole number from 1 to 100" in capsys.readouterr().err


class Nothing:
    """A project that has never been up."""

    def status(self) -> list[ServiceStatus]:
        return []


def test_nothing_running_is_one_sentence_that_names_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.projects.current", lambda *_: Nothing())
    assert main([]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"make up profile={PROFILE}" in said


@dataclass
class Half:
    """A runtime of which one service is in another state."""

    state: str

    def status(self) -> list[ServiceStatus]:
        other = "catalog-sales"
        return [
            ServiceStatus(name, self.state if name == other else "running", 1, None, 0.0, None, None, None, 0, "")
            for name in NEEDED
        ]


def test_the_one_that_was_not_started_is_named() -> None:
    with pytest.raises(RuntimeProblem, match="catalog-sales did not start"):
        require_started(Half("stopped"), NEEDED, PROFILE)  # type: ignore[arg-type]  # all that is asked of it


@pytest.mark.parametrize("state", ["exited", "paused"])
def test_one_that_was_broken_since_is_for_the_story_to_find(state: str) -> None:
    require_started(Half(state), NEEDED, PROFILE)  # type: ignore[arg-type]  # all that is asked of it


def test_every_station_is_a_line() -> None:
    shown = line(Station("bank", "The card is charged once", "the bank's own record", "done", "one charge", 0.25))
    assert "0.250 s" in shown
    assert "one charge" in shown
    assert "stopped here" not in shown
    assert "stopped here" in line(Station("bank", "x", "y", "stopped", "no charge", 60.0))


def test_the_console_reads_what_was_written(tmp_path: Path) -> None:
    assert record.read(tmp_path) is None
    assert record.silent_seconds(tmp_path) == 0.0
    story = new_story("LAMP", 2)
    record.write(tmp_path, story)
    assert record.read(tmp_path) == story
    assert record.silent_seconds(tmp_path) >= 0.0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff", b"[" * 100_000, b"x" * 300_000])
def test_a_file_that_is_no_story_is_none(tmp_path: Path, content: bytes) -> None:
    path = record.path_of(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert record.read(tmp_path) is None


def test_a_story_of_another_version_is_none(tmp_path: Path) -> None:
    story = new_story("LAMP", 2)
    story.schema = 2
    record.write(tmp_path, story)
    assert record.read(tmp_path) is None


def test_the_profile_holds_all_that_the_story_needs() -> None:
    from infra.cli import profile_services

    assert set(NEEDED) - {"cron-scheduler"} <= set(profile_services(command.PROFILE))
