"""One `up`: what is to start, in which order, until all is healthy; all or nothing.

One thread polls everything that is starting, so Ctrl-C arrives between two probes and independent services still start
side by side: the processes run in parallel, only the looking is in turn. Another thread launches, since Ctrl-C goes to the
main thread only: whoever is interrupted waits for a launch under way, so no process is without the record that stops it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from infra.native.compose import STARTED, Service, Stack
from infra.native.state import Record, life_of
from infra.runtime import Progress, RuntimeProblem

_PROBE_SECONDS = 1.0
_TOXIPROXY = "toxiproxy"


class Host(Protocol):
    """What a start needs of the runtime."""

    def stack(self, env: Mapping[str, str] | None = None) -> Stack: ...
    def with_edges(self) -> bool: ...
    def records(self) -> dict[str, Record]: ...
    def definition(self, name: str, service: str, env: Mapping[str, str]) -> Service: ...
    def require_room(self, wanted: Sequence[tuple[str, str, Mapping[str, str]]]) -> None: ...
    def launch(self, name: str, service: str, env: Mapping[str, str]) -> Record: ...
    def arrived(self, record: Record, timeout: float) -> bool: ...
    def exit_code(self, name: str) -> int | None: ...
    def stop_again(self, records: Sequence[Record]) -> None: ...
    def forget(self, service: str) -> None: ...
    def resume(self, service: str) -> object: ...


@dataclass(slots=True)
class Startup:
    """`run` raises RuntimeProblem and leaves nothing behind that it started; the same on KeyboardInterrupt."""

    host: Host
    requested: Sequence[str]
    env: Mapping[str, str]
    progress: Progress
    timeout: float
    started: dict[str, Record] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)
    begun: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        order = self._order()
        fresh = [name for name in order if self._must_start(name)]
        if not fresh:
            self.progress(f"all {len(order)} services are up already")
            return
        self.host.require_room([(name, name, self.env) for name in fresh])
        finished = False
        try:
            with ThreadPoolExecutor(1) as launcher:
                launcher.submit(int).result()  # its thread runs from here on: making it could be interrupted, too
                self._start_in_order(order, set(fresh), launcher)
            finished = True
        finally:
            if not finished:
                self._undo()

    def _order(self) -> list[str]:
        stack = self.host.stack(self.env)
        order = stack.with_dependencies(self.requested)
        if (
            self.host.with_edges()
            and _TOXIPROXY in stack.services
            and any(stack.service(name).builds for name in order)
        ):
            order = [_TOXIPROXY, *(name for name in order if name != _TOXIPROXY)]
        return order

    def _must_start(self, name: str) -> bool:
        record = self.host.records().get(name)
        if record is None:
            return True
        same = record.fingerprint == fingerprint(self.host.definition(name, name, self.env))
        if life_of(record) is None:
            return not (record.one_shot and self.host.exit_code(name) == 0 and same)
        if name in self.requested and not same:
            self.progress(f"{name}: its settings have changed; starting it anew")
            self.host.forget(name)
            return True
        if name in self.requested:
            self.host.resume(name)
        return False

    def _start_in_order(self, order: list[str], fresh: set[str], launcher: Executor) -> None:
        deadline = time.monotonic() + self.timeout
        pending = [name for name in order if name in fresh]
        waiting = [name for name in order if name not in fresh and not self._is_done(name)]
        self.ready.update(name for name in order if name not in fresh and name not in waiting)
        while pending or waiting:
            for name in [name for name in pending if self._may_start(name)]:
                self._launch(name, launcher)
                pending.remove(name)
                waiting.append(name)
            for name in [name for name in waiting if self._has_arrived(name)]:
                waiting.remove(name)
                self.ready.add(name)
            late = waiting or pending
            if late and time.monotonic() > deadline:
                raise RuntimeProblem(
                    f"Not healthy within {self.timeout:.0f} s: {', '.join(late)}; 'make logs service={late[0]}'."
                )
            time.sleep(0.02)

    def _is_done(self, name: str) -> bool:
        record = self.host.records()[name]
        return record.one_shot and life_of(record) is None

    def _may_start(self, name: str) -> bool:
        conditions = dict(self.host.stack(self.env).service(name).depends_on)
        return all(
            dependency in self.ready or (condition == STARTED and dependency in self.started)
            for dependency, condition in conditions.items()
        ) and (name == _TOXIPROXY or not self._needs_toxiproxy(name) or _TOXIPROXY in self.ready)

    def _needs_toxiproxy(self, name: str) -> bool:
        stack = self.host.stack(self.env)
        return self.host.with_edges() and _TOXIPROXY in stack.services and stack.service(name).builds

    def _launch(self, name: str, launcher: Executor) -> None:
        self.begun[name] = time.monotonic()
        self.progress(f"{name}: starting")
        self.started[name] = launcher.submit(self.host.launch, name, name, self.env).result()

    def _has_arrived(self, name: str) -> bool:
        record = self.started.get(name) or self.host.records()[name]
        arrived = self.host.arrived(record, _PROBE_SECONDS)
        if arrived:
            self._tell(name, "done" if record.one_shot else "ready")
        return arrived

    def _tell(self, name: str, word: str) -> None:
        if name in self.begun:
            self.progress(f"{name}: {word} after {time.monotonic() - self.begun[name]:.1f} s")

    def _undo(self) -> None:
        if self.started:
            self.progress(f"stopping what was started: {', '.join(self.started)}")
        mine = [record for name, record in self.host.records().items() if name in self.begun]
        self.host.stop_again(mine)


def is_one_shot(definition: Service) -> bool:
    """A process of ours without a health check runs to its end and must exit 0."""
    return definition.builds and definition.health is None


def fingerprint(definition: Service) -> str:
    """Changes when the service would run differently."""
    settings = [f"{name}={value}" for name, value in sorted(definition.environment.items())]
    parts = [definition.image, *definition.command, *settings]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
