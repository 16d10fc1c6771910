"""Small parts of the engine: timing, steady state, schemas, history, lock, prompt, story, discovery."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from infra.runtime import RuntimeProblem
from labs.engine import Load, error_rate, p99, throughput
from labs.engine.cleanup import PREFIX, new_prefix
from labs.engine.clock import RunClock
from labs.engine.discover import NoSuchLabError, labs
from labs.engine.display import Tick, line
from labs.engine.files import FILES, VariantVerdict, VerdictFile, schema_path, schema_text
from labs.engine.folder import commit, create, last_verdict, link_latest, told
from labs.engine.generator_check import generator_problem
from labs.engine.load import HistoryRecord, PhaseStart, Tail, to_operations
from labs.engine.lock import one_lab
from labs.engine.model import FaultRecord, Operation, Outcome, Phase, Receipt, VariantRole, Verdict, Window, at
from labs.engine.prompt import prediction
from labs.engine.schedule import end_of, scaled, unproven
from labs.engine.steady import latency_of
from labs.engine.story import concerns
from labs.engine.timing import plan
from labs.faults import kill


def operation(number: int, seconds: float = 0.01, outcome: Outcome = Outcome.OK, late: float = 0.0) -> Operation:
    begin = number / 50
    return Operation(
        str(number), f"k{number}", "payment", Phase.BASELINE, begin, begin + late, begin + seconds, 1, 201, outcome,
        None, {"payment": f"pay_{number}"},
    )  # fmt: skip


def window(*operations: Operation) -> Window:
    return Window(10.0, operations)


def test_a_full_day_may_take_three_minutes_and_a_short_one_one() -> None:
    load = Load("loadtests/payments.py", rate=50, seconds=60)
    full, short = plan(load), plan(load, short=True)
    assert (full.baseline + full.inject, full.scale) == (60, 1.0)
    assert (full.budget, short.budget) == (180, 60)


def test_longer_loads_stretch_the_fault_times_and_too_short_ones_are_refused() -> None:
    load = Load("x", rate=1, seconds=60)
    assert plan(load, seconds=110).scale == pytest.approx(2.0)
    with pytest.raises(ValueError, match="at least 15"):
        plan(load, seconds=12)


def test_fault_times_scale_and_negative_ones_are_refused() -> None:
    faults = scaled((at(10, kill("sut", down=4)), at(20, kill("sut"), lasting=1)), 0.5)
    assert [(one.at, one.lasting) for one in faults] == [(5, 2), (10, 0.5)]
    assert end_of(faults) == 10.5
    with pytest.raises(ValueError, match="at least 0 s"):
        at(-1, kill("sut"))


def test_percentiles_count_from_the_intended_send_time() -> None:
    latency = latency_of([operation(number, 0.010) for number in range(99)] + [operation(99, 2.0)])
    assert latency is not None
    assert latency.p50 == pytest.approx(10, rel=0.01)
    assert latency.p99 == pytest.approx(10, rel=0.01)
    assert latency.max == pytest.approx(2000)
    assert latency_of([]) is None


def test_steady_state_predicates_see_red() -> None:
    good = window(*(operation(number) for number in range(200)))
    bad = window(*good.operations[:-10], *(operation(n, 1.0, Outcome.FAIL) for n in range(190, 200)))
    for predicate in (error_rate(below=0.01), p99(below_ms=250), throughput(at_least=19.9)):
        assert predicate.check(good).ok
        assert not predicate.check(bad).ok
    assert not error_rate(below=0.01).check(window()).ok
    assert not p99(below_ms=250).check(window()).ok


def test_a_late_or_busy_generator_is_noticed() -> None:
    punctual = window(*(operation(number) for number in range(100)))
    late = window(*(operation(number, late=0.06) for number in range(100)))
    assert generator_problem(punctual, 0.3) == ""
    assert "sent its operations late (p99 60 ms" in generator_problem(late, 0.3)
    assert "used 93% of a core" in generator_problem(punctual, 0.93)


@pytest.mark.parametrize("name", FILES)
def test_the_schemas_are_those_of_the_structures(name: str) -> None:
    assert schema_path(name).read_text() == schema_text(name), "run python -m labs.engine.files"


def test_a_tail_gives_whole_lines_once(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "file")
    assert tail.lines() == []
    tail.path.write_text("one\ntw")
    assert tail.lines() == [b"one"]
    tail.path.write_text("one\ntwo\n")
    assert tail.lines() == [b"two"]
    assert tail.lines() == []


def test_operations_get_the_time_of_the_run_and_the_phase_of_their_intended_time() -> None:
    clock = RunClock(monotonic=100.0, wall=datetime(2026, 1, 1, tzinfo=UTC))
    record = HistoryRecord("1", "k", "payment", 112.0, 112.5, None, 1, None, Outcome.UNKNOWN)
    phases = [PhaseStart(Phase.CONTROL, 1.0), PhaseStart(Phase.BASELINE, 10.0), PhaseStart(Phase.INJECT, 20.0)]
    (found,) = to_operations([record], clock, phases)
    assert (found.intended_at, found.sent_at, found.done_at, found.phase) == (12.0, 12.5, None, Phase.BASELINE)
    assert found.latency is None


def test_a_fault_that_was_not_injected_or_not_proved_is_a_problem() -> None:
    record = FaultRecord("kill", "sut", "api", {}, 1.0, 1.1, 2.0, Receipt(True, "api died"), None)
    assert unproven([record]) == []
    not_reached = FaultRecord("kill", "sut", "api", {}, 1.0, None, None, None, None)
    refused = FaultRecord("kill", "sut", "api", {}, 1.0, 1.1, 2.0, None, "api did not run")
    idle = FaultRecord("kill", "sut", "api", {}, 1.0, 1.1, 2.0, Receipt(False, "no request was hit"), None)
    assert unproven([not_reached, refused, idle]) == [
        "kill on api was never injected",
        "kill on api has no receipt: api did not run",
        "kill on api has no receipt: no request was hit",
    ]


def test_a_second_lab_in_the_same_checkout_is_told_who_runs(tmp_path: Path) -> None:
    with one_lab(tmp_path, "A lab (week02-day2)"), pytest.raises(RuntimeProblem, match=r"week02-day2.*pid \d+"):  # noqa: SIM117
        with one_lab(tmp_path, "Another"):
            pass
    with one_lab(tmp_path, "Another"):
        pass


def test_a_prediction_is_never_waited_for_without_a_terminal() -> None:
    pipe = Console(file=io.StringIO(), force_terminal=False)
    assert prediction(pipe, None) is None
    assert prediction(pipe, "  twice ") == "twice"
    assert prediction(pipe, " ") is None


def test_a_prediction_is_read_from_a_terminal_and_given_up_after_a_while_or_when_interrupted() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    user, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as source:
        os.write(user, b"it doubles\n")
        assert prediction(console, None, source=source) == "it doubles"
        assert prediction(console, None, source=source, patience=0.05) is None
        stop = threading.Event()
        stop.set()
        assert prediction(console, None, source=source, stop=stop) is None
    os.close(user)


def test_prefixes_differ_and_fit_a_database_name() -> None:
    prefixes = {new_prefix() for _ in range(50)}
    assert len(prefixes) == 50
    assert all(PREFIX.match(prefix) for prefix in prefixes)
    assert not PREFIX.match("payments")


def test_run_folders_do_not_collide_and_latest_points_at_the_finished_one(tmp_path: Path) -> None:
    clock = RunClock(wall=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
    first, second = create(tmp_path, "week02-day2", clock, 42), create(tmp_path, "week02-day2", clock, 42)
    assert (first.name, second.name) == ("20260304T050607Z-seed42", "20260304T050607Z-seed42-2")
    link_latest(first)
    link_latest(second)
    assert (first.parent / "latest").resolve() == second
    assert last_verdict(tmp_path, "week02-day2") is None
    verdict = {
        "schema": 1,
        "lab": "week02-day2",
        "verdict": "pass",
        "reasons": [],
        "metrics": {},
        "variants": {},
        "scenarios": {},
    }
    (second / "verdict.json").write_text(json.dumps(verdict))
    found = last_verdict(tmp_path, "week02-day2")
    assert found is not None
    assert found.verdict.value == "pass"


def test_the_commit_is_that_of_the_checkout_and_says_when_files_were_changed(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "file").write_text("one")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "one"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True)
    hash_ = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit(tmp_path) == hash_[:7]
    (tmp_path / "new").write_text("not tracked")
    assert commit(tmp_path) == hash_[:7]
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{hash_[:7]}-dirty"


def test_without_git_the_commit_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(Path(__file__).parent) is None


def test_the_verdict_of_one_variant_alone_is_not_told_as_the_verdict_of_the_lab() -> None:
    (lab,) = labs(2, 2)
    part = VariantVerdict(
        role=VariantRole.NAIVE, verdict=Verdict.FAIL, invariants={}, latency_ms=None, recovery_seconds=None
    )
    common = {"lab": lab.name, "verdict": Verdict.PASS, "reasons": [], "metrics": {}, "scenarios": {}}
    alone = VerdictFile(variants={"naive": part}, **common)  # type: ignore[arg-type]  # as named above
    both = VerdictFile(variants={"naive": part, "engineered": part}, **common)  # type: ignore[arg-type]
    assert (told(lab, alone), told(lab, both)) == ("pass of naive alone", "pass")


def test_an_offender_is_found_by_key_client_id_or_what_the_client_was_shown() -> None:
    assert concerns(operation(7), "k7")
    assert concerns(operation(7), "7")
    assert concerns(operation(7), "pay_7")
    assert not concerns(operation(7), "k8")


def test_a_progress_line_says_phase_rate_errors_latency_and_faults() -> None:
    text = line("naive", Phase.INJECT, 12.3, 50, Tick(49.6, 0.012, 38.2, ("kill api",)))
    assert text.split() == [
        "naive",
        "inject",
        "12/50",
        "s",
        "50/s",
        "errors",
        "1.2",
        "%",
        "p99",
        "38",
        "ms",
        "faults:",
        "kill",
        "api",
    ]


def test_a_missing_lab_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(NoSuchLabError, match="there is no lab for week 99; there are: "):
        labs(99)
