"""Step load: one rate after another, each a Locust process of its own, so that no step inherits the queue of the one before.

Every step begins with a warm-up that is not judged (connections, caches) and ends by draining what is in flight.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from loadtests.history import Live
from loadtests.knee import Bounds, Measured, Operation, Step, Window, climb, measured
from loadtests.pacing import schedule

ROOT = Path(__file__).resolve().parent.parent
MOST_STEPS = 20
SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 60.0
LONGEST_MINUTES = 15.0
HIGHEST_RATE = 10_000.0
WARM_UP_SHARE, LONGEST_WARM_UP = 0.2, 3.0
START_AND_DRAIN_SECONDS = 50.0
"""Locust's start and at most 20 s of draining; a generator that needs longer is ended."""
USUAL_OVERHEAD_SECONDS = 4.0
TERMINATED_WITHIN_SECONDS = 25.0
IN_FLIGHT_SECONDS, LEAST_IN_FLIGHT, MOST_IN_FLIGHT = 4, 500, 8_000
KEPT_RUNS = 20


class StepProblem(Exception):
    """The plan makes no sense, or the generator failed; the message is a sentence for the learner."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rates, for how long each, and what a step must keep."""

    rates: tuple[float, ...]
    seconds: float
    bounds: Bounds
    seed: int

    @property
    def warm_up(self) -> float:
        """Seconds at the start of a step that are not judged."""
        return min(LONGEST_WARM_UP, self.seconds * WARM_UP_SHARE)

    @property
    def minutes(self) -> float:
        """What all steps take if nothing is measured twice."""
        return len(self.rates) * (self.seconds + USUAL_OVERHEAD_SECONDS) / 60


def rates(text: str) -> tuple[float, ...]:
    """`50:400:50` is 50, 100 ... 400 operations per second. Raises StepProblem with what is allowed."""
    example = "steps=FIRST:LAST:BY, as in steps=50:400:50"
    try:
        first, last, by = (float(part) for part in text.split(":"))
    except ValueError:
        raise StepProblem(f"{text!r} is no staircase: say {example}.") from None
    if not all(math.isfinite(value) and 0 < value <= HIGHEST_RATE for value in (first, last, by)):
        raise StepProblem(f"Each number of steps={text} must be above 0 and at most {HIGHEST_RATE:g}: {example}.")
    if last <= first:
        raise StepProblem(f"The last step must be higher than the first: {example}, not {text}.")
    count = math.floor((last - first) / by + 1e-9) + 1
    if not 2 <= count <= MOST_STEPS:
        raise StepProblem(f"steps={text} are {count} steps; between 2 and {MOST_STEPS} are run.")
    return tuple(round(first + number * by, 6) for number in range(count))


def plan(steps: str, seconds: float, p99_ms: float, seed: int) -> Plan:
    """Raises StepProblem with what is allowed."""
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise StepProblem(f"A step lasts {SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g} seconds, not {seconds:g}.")
    if not 1 <= p99_ms <= 60_000:
        raise StepProblem(f"The bound on p99 is 1 to 60000 ms, not {p99_ms:g}.")
    made = Plan(rates(steps), seconds, Bounds(p99_ms), seed)
    if made.minutes > LONGEST_MINUTES:
        raise StepProblem(
            f"{len(made.rates)} steps of {seconds:g} s take {made.minutes:.0f} minutes; {LONGEST_MINUTES:g} are the most."
        )
    return made


def create_folder(root: Path, system: str, seed: int) -> Path:
    """`.lab/load/payments-20260304T050607Z-seed42`; the oldest beyond KEPT_RUNS are deleted."""
    base = root / ".lab" / "load"
    name = f"{system}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-seed{seed}"
    for number in range(1, 100):
        folder = base / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    else:
        raise StepProblem(f"{base / name} exists a hundred times; delete some.")
    runs = sorted((path for path in base.iterdir() if path.is_dir() and not path.is_symlink()), key=_made_at)
    for old in runs[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _made_at(folder: Path) -> float:
    return folder.stat().st_mtime


Row = TypeVar("Row", bound=msgspec.Struct)


def read_lines(path: Path, row: type[Row]) -> list[Row]:
    """Every whole line. Raises StepProblem for an unreadable one."""
    if not path.exists():
        return []
    try:
        return [msgspec.json.decode(line, type=row) for line in path.read_bytes().split(b"\n")[:-1]]
    except msgspec.MsgspecError as error:
        raise StepProblem(f"{path} has an unreadable line: {error}") from error


@dataclass(slots=True)
class Staircase:
    """Performs steps of one system. `command` is Locust's command line without rate, seconds and files."""

    command: Sequence[str]
    folder: Path
    plan: Plan
    measurements: int = 0

    def perform(self, rate: float) -> Step:
        """One step, measured. Raises StepProblem if the generator failed, KeyboardInterrupt when it was interrupted."""
        self.measurements += 1
        name = f"{self.measurements:02d}-{rate:g}"
        history, live, log = (self.folder / f"{name}.{kind}" for kind in ("history.jsonl", "live.jsonl", "log"))
        self._run(rate, history, live, log)
        operations = sorted(read_lines(history, Operation), key=lambda one: one.intended_at)
        if not operations:
            raise StepProblem(f"The load generator sent nothing at {rate:g}/s; see {log}.")
        zero = operations[0].intended_at - next(schedule(rate, self.plan.seed))
        window = Window(zero + self.plan.warm_up, zero + self.plan.seconds)
        return measured(operations, read_lines(live, Live), rate, window, self.plan.bounds)

    def _run(self, rate: float, history: Path, live: Path, log: Path) -> None:
        cap = min(MOST_IN_FLIGHT, max(LEAST_IN_FLIGHT, math.ceil(rate * IN_FLIGHT_SECONDS)))
        argv = [
            *(*self.command, "--only-summary", "--rate", f"{rate:g}", "--seconds", f"{self.plan.seconds:g}"),
            *("--seed", str(self.plan.seed), "--max-in-flight", str(cap)),
            *("--history", str(history), "--live", str(live)),
        ]
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches this process only, and this one ends the generator.
            process = subprocess.Popen(  # noqa: S603
                argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
            try:
                code = process.wait(self.plan.seconds + START_AND_DRAIN_SECONDS)
            except subprocess.TimeoutExpired:
                raise StepProblem(f"The load generator did not end at {rate:g}/s; see {log}.") from None
            finally:
                _end(process)
        if code:
            raise StepProblem(f"The load generator ended with code {code} at {rate:g}/s; see {log}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL to its session if that does not help. Nothing to do for one that has ended."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(TERMINATED_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass(frozen=True, slots=True)
class Climbed:
    """All that was measured, in order, and how it ended: `problem` is "" if the staircase ended as planned."""

    steps: tuple[Measured, ...]
    problem: str = ""
    interrupted: bool = False


def walk(rates: Sequence[float], perform: Callable[[float], Step], told: Callable[[Measured], None]) -> Climbed:
    """Climb and tell each step as it ends; what was measured before Ctrl-C or a failure of the generator is kept."""
    steps: list[Measured] = []
    try:
        for one in climb(rates, perform):
            steps.append(one)
            told(one)
    except KeyboardInterrupt:
        return Climbed(tuple(steps), "Interrupted: the steps above were measured.", interrupted=True)
    except StepProblem as problem:
        return Climbed(tuple(steps), str(problem))
    return Climbed(tuple(steps))
