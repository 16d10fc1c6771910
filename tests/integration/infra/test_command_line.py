"""`python -m infra` on a scratch checkout: what the Makefile calls."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra import projects
from infra.cli import main
from infra.native.spawn import tail
from tests.integration.infra.stack import INTERRUPTIBLE, REPOSITORY, Scratch

pytestmark = pytest.mark.integration


@pytest.fixture
def command(scratch: Scratch) -> list[str]:
    """The scratch checkout gets infra/ and services/ of its own, as a clone has, and the tools of this one."""
    for folder in ("infra", "services", "labs"):
        shutil.copytree(REPOSITORY / folder, scratch.root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return [sys.executable, "-m", "infra"]


def run(command: list[str], scratch: Scratch, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *words], cwd=scratch.root, capture_output=True, text=True, check=False, timeout=60)


def test_up_status_logs_chaos_down_and_clean(command: list[str], scratch: Scratch) -> None:
    done = run(command, scratch, "up", "--profile", "all")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("runtime: native (")
    assert "4 services of all are up" in done.stdout
    table = run(command, scratch, "status").stdout
    assert "project dev" in table
    assert table.count("running") == 3
    assert run(command, scratch, "logs", "web").stdout == "listening\n"

    broken = run(command, scratch, "chaos", "--do", "kill", "--target", "web", "--for", "1s").stdout
    assert "died" in broken
    assert "healed: web runs" in broken
    assert run(command, scratch, "chaos", "--do", "heal").stdout == "there was nothing to heal\n"

    assert run(command, scratch, "down").stdout.endswith("nothing runs\n")
    assert scratch.leftovers() == []
    assert run(command, scratch, "clean").returncode == 0
    assert not (scratch.root / ".lab/projects").exists()
    assert not (scratch.root / ".lab/runtime").exists()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["up", "--profile", "week99"], 1, "There is no profile 'week99'"),
        (["logs", "nobody"], 1, "nobody has not been started"),
        (["chaos", "--do", "explode", "--target", "web"], 1, "There is no chaos script 'explode'"),
        (["chaos", "--do", "kill"], 1, "Nothing runs that do=kill could hit"),
        (["sing"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_a_problem_is_one_sentence_and_an_exit_code(
    command: list[str], scratch: Scratch, words: list[str], code: int, sentence: str
) -> None:
    done = run(command, scratch, *words)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.splitlines()) == 1


def test_asking_for_docker_where_none_is_installed_is_answered_plainly(
    command: list[str], scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_RUNTIME", "docker")
    monkeypatch.setenv("PATH", str(scratch.root))
    done = run(command, scratch, "up", "--profile", "all")
    assert (done.returncode, done.stderr) == (
        1,
        "There is no 'docker' command here; install Docker or set LAB_RUNTIME=native.\n",
    )
    monkeypatch.setenv("LAB_RUNTIME", "podman")
    assert "must be native or docker" in run(command, scratch, "runtime").stderr


def test_the_choice_and_its_reason_are_kept(
    command: list[str], scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAB_RUNTIME", raising=False)
    monkeypatch.setenv("PATH", str(scratch.root))
    choice = "native: There is no 'docker' command here; install Docker or set LAB_RUNTIME=native\n"
    assert run(command, scratch, "runtime").stdout == choice
    assert (scratch.root / ".lab/runtime").read_text() == choice


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_exits_130_and_leaves_nothing(
    command: list[str], scratch: Scratch, number: signal.Signals
) -> None:
    file = scratch.root / "docker-compose.yml"
    file.write_text(file.read_text().replace("${NEVER_READY:-}", "1"))
    process = subprocess.Popen(
        [*INTERRUPTIBLE, *command, "up", "--profile", "all"],
        cwd=scratch.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("web: starting"):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert [line for line in scratch.leftovers() if "server.py" in line] == []
    scratch.runtime()


def test_down_of_all_projects_leaves_no_process(scratch: Scratch) -> None:
    for project in ("dev", "lab"):
        scratch.runtime(project).up(["back"])
    assert projects.existing(scratch.root) == ["dev", "lab"]
    projects.down(lambda _line: None, root=scratch.root)
    assert scratch.leftovers() == []


def test_clean_deletes_data_also_behind_links(scratch: Scratch, tmp_path: Path) -> None:
    runtime = scratch.runtime()
    runtime.up(["worker"])
    data = scratch.root / ".lab/projects/dev/data"
    data.mkdir(exist_ok=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (data / "postgres").symlink_to(tmp_path / "real")
    projects.clean(lambda _line: None, root=scratch.root)
    assert not (tmp_path / "real").exists()
    assert not (scratch.root / ".lab/projects").exists()


def test_down_heals_first_what_was_broken_by_hand(command: list[str], scratch: Scratch) -> None:
    assert run(command, scratch, "up", "--profile", "all").returncode == 0
    breaking = subprocess.Popen(
        [*INTERRUPTIBLE, *command, "chaos", "--do", "pause", "--target", "back", "--for", "5m"],
        cwd=scratch.root,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert breaking.stdout is not None
    assert any(line.startswith("receipt:") for line in breaking.stdout)
    assert run(command, scratch, "down").returncode == 0
    assert breaking.wait(30) == 0
    breaking.stdout.close()
    assert scratch.leftovers() == []


def test_the_tail_of_a_log_is_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert tail(log, 2) == ["line 4998", "line 4999"]
    assert tail(tmp_path / "none", 5) == []


def test_usage_errors_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["up", "--speed", "fast"])
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err
