"""The plan is bounded, a generator that fails is told in a sentence, and what was measured before that is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from loadtests import staircase, steps
from loadtests.knee import Measured, Operation, Status, Step
from loadtests.staircase import Target
from loadtests.steps import KEPT_RUNS, Plan, Staircase, StepProblem, create_folder, read_lines, walk

GENERATOR = '''
    """Writes the history that a load at 20 ms for each operation would; above 100/s they take 600 ms."""

    import json
    import sys
    import time
    from itertools import count

    from loadtests.pacing import schedule

    def value(name):
        return sys.argv[sys.argv.index(name) + 1]

    rate, seconds, zero = float(value("--rate")), float(value("--seconds")), time.monotonic()
    latency = 0.02 if rate <= 100 else 0.6
    with open(value("--history"), "w") as history:
        for number, offset in zip(count(), schedule(rate, int(value("--seed")))):
            if offset > seconds:
                break
            at = zero + offset
            line = {"id": f"1-{number}", "key": "k", "kind": "payment", "intended_at": at, "sent_at": at + 0.001,
                    "done_at": at + latency, "attempts": 1, "status": 201, "outcome": "ok", "error": None, "result": None}
            history.write(json.dumps(line) + "\\n")
'''


def program(folder: Path, source: str) -> list[str]:
    path = folder / "generator.py"
    path.write_text(textwrap.dedent(source))
    return [sys.executable, str(path)]


def plan(text: str = "50:150:50", seconds: float = 5.0) -> Plan:
    return steps.plan(text, seconds, 250.0, 42)


@pytest.fixture(autouse=True)
def _generator_finds_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(steps.ROOT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50:200:50", (50.0, 100.0, 150.0, 200.0)),
        ("50:190:50", (50.0, 100.0, 150.0)),
        ("0.5:2:0.5", (0.5, 1.0, 1.5, 2.0)),
        ("0.1:0.3:0.1", (0.1, 0.2, 0.3)),
    ],
)
def test_a_staircase_goes_up_to_its_last_step(text: str, expected: tuple[float, ...]) -> None:
    assert steps.rates(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no staircase"),
        ("50", "is no staircase"),
        ("50:400", "is no staircase"),
        ("50:400:50:1", "is no staircase"),
        ("a:b:c", "is no staircase"),
        ("50:400:0", "above 0"),
        ("-50:400:50", "above 0"),
        ("nan:400:50", "above 0"),
        ("50:inf:50", "at most 10000"),
        ("50:20000:5000", "at most 10000"),
        ("400:50:50", "higher than the first"),
        ("50:50:50", "higher than the first"),
        ("50:60:50", "1 steps; between 2 and 20"),
        ("1:1000:1", "1000 steps; between 2 and 20"),
    ],
)
def test_a_wrong_staircase_is_refused_with_an_example(text: str, sentence: str) -> None:
    with pytest.raises(StepProblem, match=sentence):
        steps.rates(text)


def test_time_and_bound_are_bounded_too() -> None:
    for seconds in (4.9, 60.1):
        with pytest.raises(StepProblem, match="5 to 60 seconds"):
            plan(seconds=seconds)
    with pytest.raises(StepProblem, match="15 are the most"):
        plan("10:200:10", 60)
    with pytest.raises(StepProblem, match="1 to 60000 ms"):
        steps.plan("50:100:50", 5, 0.5, 1)


def test_the_warm_up_is_a_fifth_of_a_step_and_three_seconds_at_most() -> None:
    assert (plan(seconds=5).warm_up, plan(seconds=10).warm_up, plan(seconds=60).warm_up) == (1.0, 2.0, 3.0)


def test_a_step_is_judged_by_the_history_that_its_generator_wrote(tmp_path: Path) -> None:
    stairs = Staircase(program(tmp_path, GENERATOR), tmp_path, plan())
    slow, quick = stairs.perform(150), stairs.perform(50)
    assert (quick.status, slow.status) == (Status.WITHIN, Status.BEYOND)
    assert quick.p50_ms == pytest.approx(20, rel=0.01)
    assert (quick.seconds, slow.seconds) == (4.0, 4.0)
    assert quick.operations == pytest.approx(200, rel=0.3)
    assert sorted(path.name for path in tmp_path.glob("*.history.jsonl")) == [
        "01-150.history.jsonl",
        "02-50.history.jsonl",
    ]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import sys; sys.exit(3)", "ended with code 3 at 50/s"),
        ("", "sent nothing at 50/s"),
        (
            "import sys; open(sys.argv[sys.argv.index('--history') + 1], 'w').write('{}\\n')",
            "unreadable line",
        ),
    ],
)
def test_a_generator_that_fails_is_told_in_a_sentence(tmp_path: Path, source: str, sentence: str) -> None:
    with pytest.raises(StepProblem, match=sentence):
        Staircase(program(tmp_path, source), tmp_path, plan()).perform(50)


def test_a_generator_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "START_AND_DRAIN_SECONDS", -4.9)
    monkeypatch.setattr(steps, "TERMINATED_WITHIN_SECONDS", 0.2)
    deaf = "import os, signal, sys, time; signal.signal(15, 1); print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(StepProblem, match="did not end at 50/s"):
        Staircase(program(tmp_path, deaf), tmp_path, plan()).perform(50)
    told = (tmp_path / "01-50.log").read_text()
    assert not told or not Path(f"/proc/{told.strip()}").exists()


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    whole = json.dumps(
        {"id": "1", "key": "k", "kind": "payment", "intended_at": 1.0, "sent_at": 1.0, "done_at": 1.1, "attempts": 1,
         "status": 201, "outcome": "ok", "error": None, "result": None}
    )  # fmt: skip
    path.write_text(whole + "\n" + whole[:20])
    assert len(read_lines(path, Operation)) == 1
    assert read_lines(tmp_path / "none.jsonl", Operation) == []


def test_what_was_measured_before_a_failure_or_an_interrupt_is_kept() -> None:
    for trouble, interrupted in ((StepProblem("it broke"), False), (KeyboardInterrupt(), True)):
        told: list[Measured] = []

        def perform(rate: float, trouble: BaseException = trouble) -> Step:
            if rate > 1:
                raise trouble
            return Step(rate, 4.0, 10, 10, 0, 0, 0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, Status.WITHIN, "")

        climbed = walk((1.0, 2.0, 3.0), perform, told.append)
        assert [one.step.rate for one in climbed.steps] == [one.step.rate for one in told] == [1.0]
        assert climbed.interrupted is interrupted
        assert climbed.problem


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_generator_too_and_leaves_a_page_of_what_was_measured(tmp_path: Path, number: int) -> None:
    hanging = textwrap.dedent(GENERATOR) + textwrap.dedent(f"""
        import os
        if rate > 50:
            with open({str(tmp_path / "pid.new")!r}, "w") as file:
                file.write(str(os.getpid()))
            os.rename({str(tmp_path / "pid.new")!r}, {str(tmp_path / "pid")!r})
            time.sleep(600)
    """)
    argv = program(tmp_path, hanging)
    call = f"staircase.run(Target('payments', 'payments', 'http://x', {argv!r}), plan('50:150:50', 5, 250, 1), Path({str(tmp_path)!r}))"
    source = f"import sys\nfrom pathlib import Path\nfrom loadtests import staircase\nfrom loadtests.staircase import Target\nfrom loadtests.steps import plan\nsys.exit({call})"
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        # In the background of a script SIGINT is ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 30
    while not pid.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=30)[0].decode()
    assert process.returncode == 130
    assert "Interrupted" in said
    assert not Path(f"/proc/{pid.read_text()}").exists()
    written = json.loads((only_run(tmp_path) / "curve.json").read_text())
    assert [one["rate"] for one in written["steps"]] == [50.0]


def test_runs_have_folders_of_their_own_and_the_oldest_are_deleted(tmp_path: Path) -> None:
    base = tmp_path / ".lab" / "load"
    for number in range(KEPT_RUNS + 2):
        folder = base / f"payments-{number}"
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    made = {create_folder(tmp_path, "payments", 1) for _ in range(3)}
    assert len(made) == 3
    left = {path for path in base.iterdir() if path.is_dir()}
    assert len(left) == KEPT_RUNS
    assert made <= left
    assert base / "payments-0" not in left


def hollow_dots(svg: Path) -> int:
    """Of steps that are not believed."""
    return svg.read_text().count("fill: #ffffff; stroke: #")


def target(argv: list[str]) -> Target:
    return Target("payments", "payments", "http://127.0.0.1:1", argv)


def only_run(root: Path) -> Path:
    (folder,) = (root / ".lab" / "load").iterdir()
    return folder


@pytest.mark.slow
def test_a_staircase_ends_with_its_knee_a_table_and_three_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert staircase.run(target(program(tmp_path, GENERATOR)), plan("50:200:50"), tmp_path) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "KNEE payments 100/s"
    folder = only_run(tmp_path)
    written = json.loads((folder / "curve.json").read_text())
    assert (written["schema"], written["knee"]["rate"], written["knee"]["beyond"]) == (1, 100.0, 150.0)
    assert [one["rate"] for one in written["steps"]] == [50.0, 100.0, 150.0, 200.0]
    assert [one["rate"] for one in written["superseded"]] == [150.0]
    assert (folder / "curve.svg").read_text().startswith("<svg")
    assert hollow_dots(folder / "curve.svg") == 0
    page = (folder / "index.html").read_text()
    assert "The knee is at 100/s" in page
    assert "<svg" in page
    assert "http://127.0.0.1:1" in page
    assert page.count("measured twice") == 1


def test_a_generator_that_dies_leaves_a_page_without_a_knee_and_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert staircase.run(target(program(tmp_path, "raise SystemExit(3)")), plan(), tmp_path) == 1
    said = capsys.readouterr().out
    assert "ended with code 3 at 50/s" in said
    assert "KNEE" not in said
    assert "ended with code 3" in (only_run(tmp_path) / "index.html").read_text()
    assert not (only_run(tmp_path) / "curve.svg").exists()


@pytest.mark.slow
def test_a_staircase_of_a_late_generator_claims_nothing_and_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = GENERATOR.replace("at + 0.001", "at + 0.2").replace("at + latency", "at + 0.2 + latency")
    assert staircase.run(target(program(tmp_path, late)), plan(), tmp_path) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "KNEE payments unknown"
    assert hollow_dots(only_run(tmp_path) / "curve.svg") > 0
