"""What runs, asked of the runtime: both projects, the learner's (`dev`) and the experiment's (`lab`)."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra import projects
from infra.runtime import Runtime, RuntimeProblem, ServiceStatus
from services.kit.errors import Problem

FRESH_SECONDS = 2.0
"""All open pages share one look at the processes."""
REOPEN_SECONDS = 15.0
"""Opening a project reads the compose file, 50 ms."""
MOST_LOG_LINES = 500
SEARCHED_LINES = 2000
MOST_FOUND = 200
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Row:
    """A service. `up_seconds` is None unless it lives; memory in bytes; `last_line` of its log."""

    service: str
    state: str
    pid: int | None
    port: int | None
    memory: int | None
    memory_limit: int | None
    restarts: int
    up_seconds: float | None
    exit_code: int | None
    detail: str
    last_line: str


@dataclass(frozen=True, slots=True)
class Project:
    """A project with anything to show. `problem` says why its processes could not be asked for."""

    name: str
    runtime: str
    rows: tuple[Row, ...]
    problem: str = ""

    @property
    def alive(self) -> bool:
        """Whether any of its services runs."""
        return any(row.state in {"running", "paused"} for row in self.rows)


class NoSuchService(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_service", "There is no such service in this project")


class Stack:
    """Blocking calls of the runtime in threads, and their answers for a short while."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._opened: dict[str, tuple[float, Runtime]] = {}
        self._seen: tuple[float, tuple[Project, ...]] | None = None
        self._asking = asyncio.Lock()
        self._opening = threading.Lock()

    async def projects(self) -> tuple[Project, ...]:
        """All that were ever up and not cleaned."""
        async with self._asking:
            if self._seen is None or self._clock() - self._seen[0] > FRESH_SECONDS:
                self._seen = (self._clock(), await asyncio.to_thread(self._look))
            return self._seen[1]

    async def logs(self, project: str, service: str, lines: int) -> list[str]:
        """The last lines. Raises NoSuchService, RuntimeProblem."""
        self._require_known(project, service)
        return await asyncio.to_thread(self._read_log, project, service, min(lines, MOST_LOG_LINES))

    async def lines_with(self, project: str, text: str) -> list[tuple[str, str]]:
        """(service, line) of the newest log lines that hold a text, in order of time where they tell it."""
        return await asyncio.to_thread(self._search_logs, project, text)

    async def variables(self, project: str, names: Mapping[str, str]) -> dict[str, str]:
        """Values of the compose file's variables as a project sees them, or the given defaults."""
        return await asyncio.to_thread(self._variables, project, names)

    async def running(self, project: str) -> frozenset[str]:
        """Names of the services that run."""
        for one in await self.projects():
            if one.name == project:
                return frozenset(row.service for row in one.rows if row.state == "running")
        return frozenset()

    def _require_known(self, project: str, service: str) -> None:
        if not _NAME.fullmatch(project) or not _NAME.fullmatch(service) or project not in projects.existing(self._root):
            raise NoSuchService

    def _look(self) -> tuple[Project, ...]:
        return tuple(self._project(name) for name in projects.existing(self._root))

    def _project(self, name: str) -> Project:
        try:
            runtime = self._runtime(name)
            rows = tuple(_row(runtime, one) for one in runtime.status())
        except (RuntimeProblem, OSError) as problem:
            return Project(name, "", (), str(problem))
        return Project(name, runtime.name, rows)

    def _runtime(self, name: str) -> Runtime:
        with self._opening:
            opened = self._opened.get(name)
            if opened is None or self._clock() - opened[0] > REOPEN_SECONDS:
                opened = (self._clock(), projects.current(name, self._root))
                self._opened[name] = opened
            return opened[1]

    def _read_log(self, project: str, service: str, lines: int) -> list[str]:
        runtime = self._runtime(project)
        if service not in {row.service for row in runtime.status()}:
            raise NoSuchService
        return [plain(line) for line in runtime.logs(service, lines=lines)]

    def _search_logs(self, project: str, text: str) -> list[tuple[str, str]]:
        if project not in projects.existing(self._root):
            return []
        runtime = self._runtime(project)
        found = [
            (status.service, line)
            for status in runtime.status()
            for line in _log(runtime, status.service, SEARCHED_LINES)
            if text in line
        ]
        found.sort(key=lambda one: _time(one[1]))
        return [(service, plain(line)) for service, line in found[-MOST_FOUND:]]

    def _variables(self, project: str, names: Mapping[str, str]) -> dict[str, str]:
        runtime = self._runtime(project)
        return {name: _variable(runtime, name, default) for name, default in names.items()}


def plain(line: str) -> str:
    """Without colours and control characters."""
    return "".join(c if c.isprintable() or c == "\t" else " " for c in ANSI.sub("", line))[:2000]


def _row(runtime: Runtime, status: ServiceStatus) -> Row:
    alive = status.pid is not None and status.started_at is not None
    return Row(
        service=status.service,
        state=status.state,
        pid=status.pid,
        port=status.port,
        memory=status.memory_bytes,
        memory_limit=status.memory_limit_bytes,
        restarts=status.restarts,
        up_seconds=time.monotonic() - status.started_at if alive and status.started_at is not None else None,
        exit_code=status.exit_code,
        detail=status.detail,
        last_line=_last_line(runtime, status.service),
    )


def _last_line(runtime: Runtime, service: str) -> str:
    """Only where it costs a read of a file; with Docker each would be a process of its own."""
    if runtime.name != "native":
        return ""
    lines = _log(runtime, service, 1)
    return plain(_message(lines[0]))[:300] if lines else ""


def _log(runtime: Runtime, service: str, lines: int) -> list[str]:
    try:
        return runtime.logs(service, lines=lines)
    except (RuntimeProblem, OSError):
        return []


def _document(line: str) -> dict[str, object]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _time(line: str) -> str:
    return str(_document(line).get("time", ""))


def _message(line: str) -> str:
    """Of a JSON log line what it says; other lines as they are."""
    document = _document(line)
    return str(document.get("message") or document.get("msg") or line)


def _variable(runtime: Runtime, name: str, default: str) -> str:
    try:
        return runtime.variable(name)
    except RuntimeProblem:
        return default
