"""What the buttons have started: one lab, load or `make up` at a time, and beside it a few chaos scripts.

Output is bounded: the last lines are kept, a long line is cut. Cancelling is SIGINT, as Ctrl-C is; what runs heals and stops
what it started, and only then ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labs.console.commands import Command, Target
from labs.engine.display import EVENT_MARK, PROGRESS_VARIABLE
from services.kit.errors import Problem

KEPT_LINES = 2000
LONGEST_LINE = 2000
KEPT_JOBS = 20
CHAOS_AT_ONCE = 6
CHUNK = 16 * 1024
TERMINAL_WIDTH = "116"
END_SECONDS = 60.0
"""How long an interrupted job may take to heal and to stop what it started."""


class Busy(Problem):
    def __init__(self, what: str) -> None:
        super().__init__(409, "busy", "Something else is running", detail=f"{what} Wait for it, or cancel it.")


class NoSuchJob(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_job", "There is no such run; the newest twenty are kept")


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: line, progress, end. `number` of the next line to ask for, so that a lost connection goes on where it was."""

    kind: str
    number: int
    data: Mapping[str, object]


@dataclass(slots=True, eq=False)
class Job:
    """One started command. `count` lines were written, of which the newest are kept. `facts` are its JSON events."""

    id: str
    command: Command
    started_at: datetime
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    facts: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=50))
    count: int = 0
    progress: dict[str, Any] | None = None
    progress_number: int = 0
    exit_code: int | None = None
    cancelled: bool = False
    ended_at: datetime | None = None
    process: asyncio.subprocess.Process | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Until its process has ended."""
        return self.ended_at is None

    def tell(self) -> None:
        """Wake all who follow."""
        event, self.changed = self.changed, asyncio.Event()
        event.set()

    def write(self, line: str) -> None:
        """A line of output: progress and JSON events are kept apart from text."""
        if line.startswith(EVENT_MARK):
            self.progress, self.progress_number = _document(line[len(EVENT_MARK) :]), self.progress_number + 1
            return
        if self.command.target is Target.CHAOS and (fact := _document(line)) is not None:
            self.facts.append(fact)
        self.lines.append(line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " ...")
        self.count += 1

    def shown(self) -> dict[str, object]:
        """For the page."""
        return {
            "id": self.id,
            "target": self.command.target.value,
            "command": self.command.line,
            "values": dict(self.command.values),
            "prediction": self.command.prediction,
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "running": self.running,
            "cancelled": self.cancelled,
            "exit_code": self.exit_code,
            "facts": list(self.facts),
            "last": self.lines[-1] if self.lines else "",
            "progress": self.progress,
        }


def _document(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


class Jobs:
    """Starts, follows and ends them."""

    def __init__(self, root: Path, programs: Mapping[str, tuple[str, ...]]) -> None:
        self._root = root
        self._programs = programs
        self._jobs: dict[str, Job] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._number = 0
        self._closing = False

    def all(self) -> list[Job]:
        """Newest first."""
        return list(reversed(self._jobs.values()))

    def get(self, job_id: str) -> Job:
        """Raises NoSuchJob."""
        if job_id not in self._jobs:
            raise NoSuchJob
        return self._jobs[job_id]

    async def start(self, command: Command) -> Job:
        """Raises Busy when one of its kind runs, or too many chaos scripts."""
        self._require_room(command)
        self._number += 1
        job = Job(f"{self._number}", command, datetime.now(UTC))
        self._jobs[job.id] = job
        self._forget_old()
        argv = [*self._programs[command.module], *command.arguments]
        try:
            job.process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=self._root,
                env=environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            job.write(f"{argv[0]} cannot be started: {error.strerror}.")
            self._ended(job, 127)
            return job
        watcher = asyncio.create_task(self._watch(job, job.process), name=f"job {job.id}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return job

    def cancel(self, job_id: str) -> Job:
        """SIGINT to its process; it is `running` until it has healed. Raises NoSuchJob; harmless once it has ended."""
        job = self.get(job_id)
        if job.running and job.process is not None:
            job.cancelled = True
            with contextlib.suppress(ProcessLookupError):
                job.process.send_signal(signal.SIGINT)
        return job

    async def follow(self, job: Job, after: int) -> AsyncIterator[Event]:
        """Lines from number `after` on and each progress, until the job has ended or the console stops."""
        seen_progress = -1
        while True:
            changed = job.changed
            # All at once: while a line is on its way to a browser, further ones arrive.
            first = max(after, job.count - len(job.lines))
            lines = list(job.lines)[len(job.lines) - (job.count - first) :] if first < job.count else []
            after = max(after, job.count)
            for number, text in enumerate(lines, first + 1):
                yield Event("line", number, {"text": text})
            if job.progress is not None and job.progress_number != seen_progress:
                seen_progress = job.progress_number
                yield Event("progress", after, job.progress)
            if not job.running:
                yield Event("end", after, job.shown())
                return
            if self._closing:
                return
            if changed is job.changed:
                await changed.wait()

    async def close(self) -> None:
        """Interrupt what runs and wait for it, at most a minute; then SIGKILL."""
        self._closing = True
        for job in self._jobs.values():
            self.cancel(job.id)
            job.tell()
        if not self._watchers:
            return
        await asyncio.wait(self._watchers, timeout=END_SECONDS)
        for job in self._jobs.values():
            if job.running and job.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job.process.pid, signal.SIGKILL)
        await asyncio.gather(*self._watchers, return_exceptions=True)

    def _require_room(self, command: Command) -> None:
        running = [job for job in self._jobs.values() if job.running]
        chaos = [job for job in running if job.command.target is Target.CHAOS]
        if command.target is Target.CHAOS:
            if len(chaos) >= CHAOS_AT_ONCE:
                raise Busy(f"{CHAOS_AT_ONCE} chaos scripts are at work.")
            return
        for job in running:
            if job.command.target is not Target.CHAOS:
                raise Busy(f"{job.command.line} is running.")

    def _forget_old(self) -> None:
        ended = [job.id for job in self._jobs.values() if not job.running]
        for job_id in ended[: max(0, len(self._jobs) - KEPT_JOBS)]:
            del self._jobs[job_id]

    async def _watch(self, job: Job, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        rest = b""
        while piece := await process.stdout.read(CHUNK):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                job.write(line.decode(errors="replace").rstrip("\r"))
            if len(rest) > LONGEST_LINE * 4:
                rest = rest[: LONGEST_LINE * 4]
            job.tell()
        if rest:
            job.write(rest.decode(errors="replace"))
        self._ended(job, await process.wait())

    @staticmethod
    def _ended(job: Job, code: int) -> None:
        job.exit_code = code
        job.ended_at = datetime.now(UTC)
        job.process = None
        job.tell()


def environment() -> dict[str, str]:
    """Of a started command: plain lines of a fixed width, and progress as events."""
    told = {
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": TERMINAL_WIDTH,
        "TERM": "dumb",
        "NO_COLOR": "1",
        PROGRESS_VARIABLE: "events",
    }
    return {**os.environ, **told}
