"""`make bench` on a checkout of its own, with benchmarks that only leave a result."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import main, measure, runtimes
from benchmarks.document import BEGIN, END
from benchmarks.measure import Wanted
from benchmarks.records import Record, load, text_of
from benchmarks.records import Records as File
from benchmarks.systems import FIGURES
from infra.runtime import RuntimeProblem, ServiceStatus
from tests.unit.benchmarks.results import leave, paid, record, search_record

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 60.0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_RUNTIME", "native")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"# A page\n\n{BEGIN}\n{END}\n\nThe end.\n")
    return tmp_path


def kept(root: Path) -> list[str]:
    return [one.name for one in load(root / "docs" / "benchmarks.json")]


def leaving(root: Path, *results: Record, codes: dict[str, int] | None = None) -> Callable[[Wanted], int]:
    """A benchmark that leaves the result of its name, if there is one, and ends with its code."""
    by_name = {one.system: one for one in results}

    def one(wanted: Wanted) -> int:
        if wanted.system in by_name:
            leave(root, by_name[wanted.system])
        return (codes or {}).get(wanted.system, 0 if wanted.system in by_name else 1)

    return one


def test_one_system_is_measured_and_its_part_of_the_page_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--system", "payments"], root=root, one=leaving(root, record())) == 0
    assert kept(root) == ["payments"]
    assert "## payments" in (root / "BENCHMARKS.md").read_text()
    readme = (root / "README.md").read_text()
    assert "[payments](BENCHMARKS.md#payments)" in readme
    assert readme.endswith(f"{END}\n\nThe end.\n")
    assert "BENCHMARKS.md has 1 parts, new: payments" in capsys.readouterr().out


def test_one_system_refreshes_no_other_part(root: Path) -> None:
    leave(root, search_record())
    assert main(["--system", "payments"], root=root, one=leaving(root, record())) == 0
    assert kept(root) == ["payments"], "search was measured once, and is written by write=1"
    assert main(["--write"], root=root) == 0
    assert kept(root) == ["payments", "search, 50,000 documents"]


def test_without_arguments_every_system_is_measured_in_turn_with_one_commit(root: Path) -> None:
    asked: list[Wanted] = []

    def one(wanted: Wanted) -> int:
        asked.append(wanted)
        return 1

    assert main([], root=root, one=one) == 1
    assert [each.system for each in asked] == list(FIGURES)
    assert {each.docs for each in asked if each.system == "search"} == {50_000}
    assert len({each.commit for each in asked}) == 1


@pytest.mark.parametrize(
    ("chosen", "other", "fetched", "expected"),
    [
        ("native", "docker", True, ["native", "docker"]),
        ("native", "native", True, ["native"]),
        ("docker", "docker", True, ["docker", "native"]),
        ("docker", "docker", False, ["docker"]),
    ],
)
def test_profiles_are_measured_under_each_runtime_that_can_be_had(
    root: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, other: str, fetched: bool, expected: list[str]
) -> None:
    monkeypatch.setattr("benchmarks.__main__.look", lambda _: (other, "there is a reason"))
    assert runtimes(chosen, root) == [chosen], "LAB_RUNTIME asks for it"
    monkeypatch.delenv("LAB_RUNTIME")
    if fetched:
        (root / ".lab" / "bin").mkdir(parents=True)
        (root / ".lab" / "bin" / "toxiproxy-server").touch()
    assert runtimes(chosen, root) == expected


def test_one_that_fails_stops_no_other_and_leaves_its_part_as_it_was(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "docs" / "benchmarks.json").write_text(text_of(File(runs=[record(commit="1111111")])))
    assert main([], root=root, one=leaving(root, search_record())) == 1
    assert kept(root) == ["payments", "search, 50,000 documents"]
    page = (root / "BENCHMARKS.md").read_text()
    assert "commit 1111111" in page
    assert "**Not of the same commit as the newest part of this page**, search" not in page.partition("## payments")[0]
    said = capsys.readouterr().err
    assert "not measured: payments, native (exit code 1), checkout, native (exit code 1), webhooks" in said
    assert "search" not in said


def test_an_interruption_ends_it_and_keeps_what_was_measured_before(root: Path) -> None:
    one = leaving(root, record(), search_record(), codes={"checkout": 130})
    assert main([], root=root, one=one) == 130
    assert kept(root) == ["payments"]


def test_a_shortened_run_does_not_reach_the_page(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = leaving(root, record(rounds=1, seconds=2))
    assert main(["--system", "payments", "--rounds", "1", "--seconds", "2"], root=root, one=one) == 0
    assert kept(root) == []
    assert "left out: payments.json is of a shortened run (1 rounds of 2 s)" in capsys.readouterr().err


def test_an_older_result_replaces_no_newer_one(root: Path) -> None:
    main(["--system", "payments"], root=root, one=leaving(root, record(at="2026-03-05T00:00:00Z")))
    before = (root / "BENCHMARKS.md").read_text()
    leave(root, record(paid(ratio=0.9), at="2026-03-04T00:00:00Z"))
    assert main(["--write"], root=root) == 0
    assert (root / "BENCHMARKS.md").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--system", "coffee"], "invalid choice: 'coffee'"),
        (["--docs", "5000"], "--docs belongs to --system search"),
        (["--system", "payments", "--docs", "5000"], "--docs belongs to --system search"),
        (["--system", "search", "--docs", "999"], "'999' is no whole number from 1000 to 10000000"),
        (["--system", "search", "--docs", "10000001"], "is no whole number"),
        (["--system", "search", "--docs", "1e6"], "'1e6' is no whole number"),
        (["--rounds", "0"], "'0' is no whole number from 1 to 100"),
        (["--rounds", "-1"], "is no whole number"),
        (["--seconds", "٣"], "is no whole number"),
        (["--write", "--system", "payments"], "--write measures nothing"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_measured(
    root: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments, root=root, one=leaving(root))
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("docs/benchmarks.json", "{", "benchmarks.json is damaged"),
        ("README.md", "# no markers", "README.md needs the lines"),
    ],
)
def test_a_page_that_could_not_be_written_is_said_before_anything_is_measured(
    root: Path, file: str, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / file).write_text(text)

    def one(wanted: Wanted) -> int:
        raise AssertionError(f"{wanted.system} was measured")

    assert main([], root=root, one=one) == 1
    assert sentence in capsys.readouterr().err


def test_beside_a_lab_or_another_benchmark_nothing_is_measured(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / ".lab").mkdir()
    with (root / ".lab" / "lab.lock").open("a+") as held:
        held.write("make bench (pid 1)")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["--system", "payments"], root=root, one=leaving(root, record())) == 1
    assert "make bench (pid 1) is running in this checkout; wait for it" in capsys.readouterr().err
    assert not (root / "BENCHMARKS.md").exists()


@pytest.mark.parametrize(
    ("project", "state", "measured"),
    [("dev", "running", False), ("lab", "paused", False), ("dev", "done", True), ("bench", "running", True)],
)
def test_beside_a_stack_that_runs_nothing_is_measured(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    project: str,
    state: str,
    measured: bool,
) -> None:
    monkeypatch.setattr("benchmarks.__main__.projects.existing", lambda _: [project])
    monkeypatch.setattr("benchmarks.__main__.projects.current", lambda *_: Stack(state))
    assert main(["--system", "payments"], root=root, one=leaving(root, record())) == (0 if measured else 1)
    assert (f"1 services of project '{project}' run and would be measured" in capsys.readouterr().err) is not measured


def test_a_stack_whose_engine_does_not_answer_runs_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.__main__.projects.existing", lambda _: ["dev"])
    monkeypatch.setattr("benchmarks.__main__.projects.current", lambda *_: Stack(None))
    assert main(["--system", "payments"], root=root, one=leaving(root, record())) == 0


class Stack:
    """Of one service; without a state its engine is away."""

    def __init__(self, state: str | None) -> None:
        self._state = state

    def status(self) -> list[ServiceStatus]:
        if self._state is None:
            raise RuntimeProblem("Docker said: nobody is there")
        return [ServiceStatus("kafka", self._state, 1, None, None, None, None, None, 0, "")]


# --- the process of one benchmark ----------------------------------------------------------------------------------------

CHILD = """
import os, pathlib, signal, sys, threading, time
from benchmarks.measure import _end_with_parent
here = pathlib.Path(sys.argv[1].removeprefix("--system="))
threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
try:
    (here / "ready").write_text(str(os.getpid()))
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(0.3)  # stopping servers takes its time, and is not to be interrupted
    with (here / "stopped").open("a") as file:
        file.write("once ")
    sys.exit(130)
"""
PARENT = """
import sys
from benchmarks.__main__ import measure
from benchmarks.measure import Wanted
sys.exit(measure(Wanted(sys.argv[1]), (sys.argv[1] + "/child.py",)))
"""


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, "it did not come"
        time.sleep(0.02)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `make bench` whose benchmark has begun."""
    (tmp_path / "child.py").write_text(CHILD)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: (tmp_path / "ready").exists() and bool((tmp_path / "ready").read_text()))
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_who_is_interrupted_twice_stops_what_runs_once_and_waits_for_it(
    parent: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    parent.send_signal(number)
    parent.send_signal(number)
    assert parent.wait(PATIENCE_SECONDS) == 130
    assert (tmp_path / "stopped").read_text() == "once "


def test_a_benchmark_is_told_its_runtime_and_its_exit_code_is_passed_on(tmp_path: Path) -> None:
    program = tmp_path / "child.py"
    program.write_text(
        f"import os, sys\nopen({str(tmp_path / 'told')!r}, 'w').write(os.environ['LAB_RUNTIME'])\nsys.exit(7)\n"
    )
    assert measure(Wanted("payments", runtime="docker"), (str(program),)) == 7
    assert (tmp_path / "told").read_text() == "docker"


@pytest.mark.slow
def test_a_benchmark_whose_parent_is_killed_stops_by_itself(parent: subprocess.Popen[bytes], tmp_path: Path) -> None:
    parent.kill()
    until(lambda: (tmp_path / "stopped").exists())
