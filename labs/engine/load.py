"""The load generator: a Locust process that ends when it is told to, and what it writes.

It is started as `python -m locust -f SCRIPT --headless --host URL --rate R --seconds S --seed N --history PATH --live PATH
--max-in-flight M`. Each operation's line is flushed to the history file when it ends (at the latest a second later), and
a line a second to the live file. SIGTERM stops new operations; within 20 s those in flight end or are written as unknown.
Times in both files are time.monotonic() of this machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil

from labs.engine.clock import RunClock
from labs.engine.model import Load, Operation, Outcome, Phase

DRAIN_SECONDS = 25.0


class LoadProblem(Exception):
    """The generator did not start, died, or wrote something unreadable."""


class HistoryRecord(msgspec.Struct, frozen=True):
    """A line of the generator's history."""

    id: str
    key: str
    kind: str
    intended_at: float
    sent_at: float | None
    done_at: float | None
    attempts: int
    status: int | None
    outcome: Outcome
    error: str | None = None
    result: dict[str, str] | None = None


class LiveRecord(msgspec.Struct, frozen=True):
    """A second of the load: counts of that second, and how late the generator itself was."""

    at: float
    sent: int
    done: int
    ok: int
    fail: int
    unknown: int
    in_flight: int
    p50_ms: float | None = None
    p99_ms: float | None = None
    lag_p99_ms: float | None = None


LOCUST = (sys.executable, "-m", "locust", "-f")


def command(
    load: Load, host: str, seed: int, seconds: float, history: Path, live: Path, *, program: Sequence[str] = LOCUST
) -> list[str]:
    """What is started: `program` and its arguments."""
    return [
        *(*program, load.script, "--headless", "--host", host),
        *("--rate", f"{load.rate:g}", "--seconds", f"{seconds:g}", "--seed", str(seed)),
        *("--history", str(history), "--live", str(live), "--max-in-flight", str(load.max_in_flight)),
        *load.options,
    ]


@dataclass(slots=True)
class Tail:
    """Reads the whole lines that were added to a file since the last time."""

    path: Path
    _offset: int = 0

    def lines(self) -> list[bytes]:
        """Without an unfinished last line."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return whole.split(b"\n") if newline else []


@dataclass(slots=True)
class Generator:
    """One running load process. Use as an async context manager: leaving it ends the process in any case."""

    argv: Sequence[str]
    cwd: Path
    log: Path
    history_path: Path
    live_path: Path
    records: list[HistoryRecord] = field(default_factory=list)
    live: list[LiveRecord] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _history_tail: Tail = field(init=False)
    _live_tail: Tail = field(init=False)

    def __post_init__(self) -> None:
        """Tails start at the beginning of their files."""
        self._history_tail, self._live_tail = Tail(self.history_path), Tail(self.live_path)

    async def __aenter__(self) -> Self:
        """Start, in a session of its own: Ctrl-C is the engine's to handle."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 a fork, not a wait
                self.argv, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it without mercy if it still runs."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def started(self, within: float = 20.0) -> None:
        """Wait for the first operation or the first live line. Raises LoadProblem."""
        deadline = asyncio.get_running_loop().time() + within
        while not self.poll() and not self.live:
            self.check_alive()
            if asyncio.get_running_loop().time() > deadline:
                raise LoadProblem(f"the load generator sent nothing within {within:.0f} s; see {self.log.name}")
            await asyncio.sleep(0.05)

    def poll(self) -> list[HistoryRecord]:
        """Read what was written since; returns all records so far. Raises LoadProblem for an unreadable line."""
        try:
            self.records += [
                msgspec.json.decode(line, type=HistoryRecord) for line in self._history_tail.lines() if line
            ]
            self.live += [msgspec.json.decode(line, type=LiveRecord) for line in self._live_tail.lines() if line]
        except msgspec.MsgspecError as error:
            raise LoadProblem(f"the load generator wrote an unreadable line: {error}") from error
        return self.records

    def check_alive(self) -> None:
        """Raises LoadProblem if it ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise LoadProblem(f"the load generator ended by itself with code {code}; see {self.log.name}")

    def cpu_seconds(self) -> float:
        """Used so far by it and its children. Raises LoadProblem if it is gone."""
        assert self._process is not None
        try:
            parent = psutil.Process(self._process.pid)
            family = [parent, *parent.children(recursive=True)]
            return sum(member.cpu_times().user + member.cpu_times().system for member in family)
        except psutil.NoSuchProcess as error:
            raise LoadProblem("the load generator ended by itself") from error

    async def stop(self) -> list[HistoryRecord]:
        """SIGTERM, wait until it has written everything. Raises LoadProblem if it does not end or not with 0."""
        assert self._process is not None
        self.check_alive()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self._process.wait, DRAIN_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LoadProblem(f"the load generator did not end within {DRAIN_SECONDS:.0f} s of SIGTERM") from error
        records = self.poll()
        if code:
            raise LoadProblem(f"the load generator ended with code {code}; see {self.log.name}")
        return records


@dataclass(frozen=True, slots=True)
class PhaseStart:
    """When a phase of a trial began, seconds from the start of the run."""

    phase: Phase
    at: float


def to_operations(records: Sequence[HistoryRecord], clock: RunClock, phases: Sequence[PhaseStart]) -> list[Operation]:
    """In the run's time, with the phase of each, in order of intended time. `phases` is in order of time."""

    def shift(moment: float | None) -> float | None:
        return None if moment is None else clock.from_monotonic(moment)

    operations = []
    for record in sorted(records, key=lambda r: r.intended_at):
        intended_at = clock.from_monotonic(record.intended_at)
        phase = next((start.phase for start in reversed(phases) if start.at <= intended_at), phases[0].phase)
        operations.append(
            Operation(
                id=record.id,
                key=record.key,
                kind=record.kind,
                phase=phase,
                intended_at=intended_at,
                sent_at=shift(record.sent_at),
                done_at=shift(record.done_at),
                attempts=record.attempts,
                status=record.status,
                outcome=record.outcome,
                error=record.error,
                result=record.result or {},
            )
        )
    return operations
