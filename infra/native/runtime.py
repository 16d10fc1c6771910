"""Runs docker-compose.yml as local processes. State is in `.lab/projects/<project>/`; no daemon but a small warden."""

from __future__ import annotations

import dataclasses
import http.client
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from infra.native import preflight, procfs
from infra.native.compose import Service, Stack
from infra.native.environment import ProjectFile
from infra.native.free_ports import is_free
from infra.native.layout import Layout
from infra.native.locking import locked
from infra.native.recipes import Site, recipe_for
from infra.native.recipes.own import with_port
from infra.native.render import remove_target, render_config, write_targets
from infra.native.spawn import last_line, spawn, tail
from infra.native.startup import Startup, fingerprint, is_one_shot
from infra.native.state import ProjectState, Record, StateFile, exit_code, life_of, members_of
from infra.native.warden_control import WardenControl
from infra.runtime import Edge, ProcessIdentity, Progress, RuntimeProblem, ServiceStatus
from services.contracts.ports import FIRST_WORKER_PORT

CHECKOUT = Path(__file__).resolve().parents[2]
PORT_SHIFT = 5000
_PROBE_SECONDS = 3.0
_TOXIPROXY = "toxiproxy"


class NativeRuntime:
    """One project of one checkout; implements `infra.runtime.Runtime`.

    `root` holds docker-compose.yml and gets `.lab/`; `tools` is the `.lab` that set-up filled. Safe for use from several
    threads and several processes: every change of state is under a lock, and no lock is held while waiting for health.
    """

    name = "native"

    def __init__(self, project: str, *, edges: bool, root: Path = CHECKOUT, tools: Path | None = None) -> None:
        self.project = project
        self._layout = Layout(root, tools or CHECKOUT / ".lab", project)
        self._state = StateFile(self._layout)
        self._file = ProjectFile(self._layout)
        self._warden = WardenControl(self._layout)
        self._edges_asked = edges
        state = self._state.read()
        if state.records:
            self._configure(state.port_offset, state.edges)
        else:
            self._configure(self._free_offset(), edges)

    # --- starting ---------------------------------------------------------------------------------------------------

    def up(
        self,
        services: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        timeout: float = 120.0,
    ) -> None:
        """See Runtime.up. A named service that runs with other variables than now asked for is started anew."""
        with self._working(progress):
            self._settle_project(progress)
            Startup(self, services, dict(env or {}), progress or _silent, timeout).run()

    def start(self, service: str, *, wait: bool = True, timeout: float = 60.0) -> ProcessIdentity:
        record = self._record(service)
        life = life_of(record)
        if life is not None:
            procfs.thaw_tree(life, record.scope())
        else:
            preflight.require_ports(
                self._new_ports([(record.name, record.service, record.env)]), self._file.port_variable
            )
            record = self.launch(record.name, record.service, record.env)
        if wait:
            self._await(record, timeout)
        return record.identity()

    def restart(self, service: str, *, wait: bool = True) -> ProcessIdentity:
        self.stop(service)
        return self.start(service, wait=wait)

    def launch(self, name: str, service: str, env: Mapping[str, str]) -> Record:
        """Start one process and record it; does not wait. For `Startup`."""
        definition = self.definition(name, service, env)
        recipe = recipe_for(definition)
        site = self._site(definition, name)
        start = recipe.prepare(definition, site)
        with self._state.changing() as state:
            old = state.records.get(name)
            if old is not None and life_of(old) is not None:
                return old
            if old is not None and members_of(old):
                procfs.kill_tree(None, old.scope())
            self._layout.verdict(name).unlink(missing_ok=True)
            spawned = spawn(name, start, self._layout.log(name), self._layout.exit_code(name))
            port = next(iter(recipe.ports(definition)), None)
            state.started += 1
            record = Record(
                name=name,
                service=service,
                order=state.started,
                env=dict(env),
                fingerprint=fingerprint(definition),
                pid=spawned.stat.pid,
                start_ticks=spawned.stat.start_ticks,
                boot_id=procfs.boot_id(),
                program=spawned.program,
                command=" ".join(start.argv)[:300],
                mark=spawned.mark,
                keeper=spawned.keeper,
                directory=None if start.cwd == site.root else str(start.cwd.resolve()),
                memory_limit=definition.memory_limit,
                port=definition.ports[0].published if definition.ports else port,
                one_shot=is_one_shot(definition),
                lives=1 if old is None else old.lives + 1,
            )
            state.records[name] = record
            self._warden.ensure()
        if record.port is not None and not record.one_shot:
            write_targets(self._layout, name, definition, record.port)
        return record

    def definition(self, name: str, service: str, env: Mapping[str, str]) -> Service:
        """The service as it will run: every reference resolved, a worker's port replaced by its own."""
        definition = self.stack(env).service(service)
        declared = definition.environment.get("HTTP_PORT")
        if not definition.builds or definition.ports or declared is None:
            return definition
        port = str(self._allot(name))
        environment = {**definition.environment, "HTTP_PORT": port}
        health = definition.health
        if health is not None:
            test = tuple(with_port(word, declared, port) for word in health.test)
            health = dataclasses.replace(health, test=test)
        return dataclasses.replace(definition, environment=environment, health=health)

    def stack(self, env: Mapping[str, str] | None = None) -> Stack:
        return self._file.stack(env)

    def with_edges(self) -> bool:
        return self._edges

    # --- stopping and breaking --------------------------------------------------------------------------------------

    def stop(self, service: str, *, timeout: float | None = None) -> None:
        record = self._read_record(service)
        if record is not None:
            self._stop_all([record], timeout)

    def kill(self, service: str) -> ProcessIdentity:
        record = self._record(service)
        life = life_of(record)
        if life is None:
            raise RuntimeProblem(f"{service} is not running, so there is nothing to kill.")
        identity = record.identity()
        if not procfs.kill_tree(life, record.scope()):
            raise RuntimeProblem(f"{service} (pid {life.pid}) did not die within 10 s of SIGKILL.")
        procfs.await_end(record.keeper)
        self._mark(record, "killed")
        return identity

    def pause(self, service: str) -> ProcessIdentity:
        record = self._record(service)
        life = life_of(record)
        if life is None or not procfs.freeze_tree(life, record.scope()):
            raise RuntimeProblem(f"{service} is not running or could not be stopped, so it is not paused.")
        return record.identity()

    def resume(self, service: str) -> ProcessIdentity:
        record = self._record(service)
        life = life_of(record)
        if life is not None and not procfs.thaw_tree(life, record.scope()):
            raise RuntimeProblem(f"{service} (pid {life.pid}) did not resume within 5 s.")
        return record.identity()

    def stands_still(self, service: str) -> bool:
        life = life_of(self._record(service))
        now = None if life is None else procfs.read_stat(life.pid)
        return now is not None and now.stopped

    def cut(self, service: str) -> ProcessIdentity:
        """See Runtime.cut."""
        raise RuntimeProblem(
            f"{service} cannot be taken off the network here: all processes share this machine's; with LAB_RUNTIME=docker"
            " it can. One link is cut through its edge (Toxiproxy) in both runtimes."
        )

    def uncut(self, service: str) -> ProcessIdentity | None:
        return self.identity(service)

    def scale(self, service: str, count: int) -> None:
        first = self._record(service)
        definition = self.stack(first.env).service(first.service)
        if count < 1 or definition.ports or first.one_shot:
            raise RuntimeProblem(
                f"{service} cannot run {count} times: only workers without a published port scale, from 1 up."
            )
        wanted = [first.name, *(f"{first.service}-{number}" for number in range(2, count + 1))]
        copies = [record for record in self._state.read().records.values() if record.service == first.service]
        self._stop_all([record for record in copies if record.name not in wanted], None)
        for record in copies:
            if record.name not in wanted:
                self._erase(record.name)
        for name in wanted:
            known = self._read_record(name)
            if known is None or life_of(known) is None:
                known = self.launch(name, first.service, first.env)
            self._await(known, 60.0)

    def forget(self, service: str) -> None:
        self.stop(service)
        self._erase(service)

    def down(self, *, progress: Progress | None = None) -> None:
        with self._working(progress):
            self._take_down(progress or _silent)

    # --- looking ----------------------------------------------------------------------------------------------------

    def identity(self, service: str) -> ProcessIdentity | None:
        record = self._read_record(service)
        return record.identity() if record is not None and life_of(record) is not None else None

    def healthy(self, service: str) -> bool:
        record = self._read_record(service)
        return record is not None and life_of(record) is not None and self.probe(record, _PROBE_SECONDS)

    def status(self) -> list[ServiceStatus]:
        records = sorted(self._state.read().records.values(), key=lambda record: record.order)
        return [self._status_of(record) for record in records]

    def logs(self, service: str, *, lines: int = 50) -> list[str]:
        log = self._layout.log(service)
        if not log.exists():
            self._record(service)
        return tail(log, lines)

    def address(self, service: str) -> tuple[str, int]:
        record = self._read_record(service)
        if record is not None and record.port is not None:
            return ("127.0.0.1", record.port)
        ports = self.stack().service(service).ports
        if not ports:
            raise RuntimeProblem(f"{service} publishes no port and has not been started.")
        return ("127.0.0.1", ports[0].published)

    def variable(self, name: str) -> str:
        return self._file.variable(name)

    def edges(self) -> dict[str, Edge]:
        return self._file.edges()

    def beside(self, service: str) -> list[str]:
        """See Runtime.beside: all share this machine's network."""
        self._record(service)
        return [sys.executable]

    # --- for Startup ------------------------------------------------------------------------------------------------

    def probe(self, record: Record, timeout: float) -> bool:
        """One health probe; a server that refuses, hangs or answers nonsense is not healthy."""
        definition = self.definition(record.name, record.service, record.env)
        try:
            return recipe_for(definition).ready(definition, self._site(definition, record.name), timeout)
        except (OSError, http.client.HTTPException):
            return False

    def records(self) -> dict[str, Record]:
        return self._state.read().records

    def arrived(self, record: Record, timeout: float) -> bool:
        """Healthy now, or for a one-shot: exited 0. Raises RuntimeProblem when it ended otherwise."""
        if not record.one_shot and life_of(record) is not None and self.probe(record, timeout):
            return True
        if life_of(record) is not None:
            return False
        code = self._exit_code_soon(record.name)
        if record.one_shot and code == 0:
            return True
        raise RuntimeProblem(f"{record.name} ended while starting (exit code {code}): {self._why_ended(record.name)}")

    def exit_code(self, name: str) -> int | None:
        return exit_code(self._layout, name)

    def require_room(self, wanted: Sequence[tuple[str, str, Mapping[str, str]]]) -> None:
        """Ports, memory and disk for (name, service, env) that are about to start. Raises RuntimeProblem."""
        preflight.require_disk(self._layout.root)
        preflight.require_memory(self.stack(env).service(service).memory_limit for _, service, env in wanted)
        preflight.require_ports(self._new_ports(wanted), self._file.port_variable)

    def stop_again(self, records: Sequence[Record]) -> None:
        """Undo a start that failed: newest first."""
        self._stop_all(sorted(records, key=lambda record: -record.order), None)

    def _exit_code_soon(self, name: str, bound: float = 2.0) -> int | None:
        """The wrapper writes it a moment after the process has ended."""
        deadline = time.monotonic() + bound
        while (code := self.exit_code(name)) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return code

    def _why_ended(self, name: str) -> str:
        """A clause for people about a process that is no more."""
        verdict = self._layout.verdict(name)
        if verdict.exists():
            return verdict.read_text()
        return last_line(self._layout.log(name))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _working(self, progress: Progress | None) -> AbstractContextManager[None]:
        return locked(self._layout.home / "up.lock", f"project '{self.project}'", timeout=300.0, waiting=progress)

    def _configure(self, port_offset: int, edges: bool) -> None:
        self._offset, self._edges = port_offset, edges
        self._file.configure(port_offset=port_offset, edges=edges)

    def _settle_project(self, progress: Progress | None) -> None:
        """Fix ports and edges for this project's life, while nothing of it lives; otherwise take over what was fixed."""
        with locked(self._layout.lab / "projects" / "lock", "the choice of ports"), self._state.changing() as state:
            if _anything_alive(state):
                if self._edges_asked and not state.edges:
                    raise RuntimeProblem(
                        f"Project '{self.project}' runs without its edges; 'make down' first, then up with edges."
                    )
            else:
                offset = self._free_offset()
                if offset != state.port_offset:
                    state.allotted.clear()
                state.port_offset, state.edges = offset, self._edges_asked
            offset, edges = state.port_offset, state.edges
        self._configure(offset, edges)
        render_config(self._layout, self.edges().values())
        if offset and progress is not None:
            progress(f"another project of this checkout is up: all ports of '{self.project}' are shifted by {offset}")

    def _free_offset(self) -> int:
        taken = set()
        for folder in (self._layout.lab / "projects").glob("*/state.json"):
            if folder.parent.name != self.project:
                state = StateFile(Layout(self._layout.root, self._layout.tools, folder.parent.name)).read()
                if _anything_alive(state):
                    taken.add(state.port_offset)
        return next(offset for offset in range(0, 10 * PORT_SHIFT, PORT_SHIFT) if offset not in taken)

    def _site(self, definition: Service, name: str) -> Site:
        mounts = {}
        for mount in definition.mounts:
            path = self._layout.data(mount.source) if mount.named else (self._layout.root / mount.source)
            mounts[mount.target] = path.absolute()
        return Site(
            self._layout.root.resolve(), self._layout.tools.resolve(), self._layout.data(name).absolute(), mounts
        )

    def _allot(self, name: str) -> int:
        known = self._state.read().allotted
        if name in known:
            return known[name]
        with self._state.changing() as state:
            if name not in state.allotted:
                first = FIRST_WORKER_PORT + self._offset
                taken = set(state.allotted.values())
                free = (port for port in range(first, first + 800) if port not in taken and is_free(port))
                state.allotted[name] = next(free)
            return state.allotted[name]

    def _new_ports(self, wanted: Sequence[tuple[str, str, Mapping[str, str]]]) -> list[tuple[str, int]]:
        """(service, port) of what is about to start. A worker whose port was taken meanwhile gets another one."""
        ports: list[tuple[str, int]] = []
        for name, service, env in wanted:
            if not is_free(self._state.read().allotted.get(name, 0)):
                with self._state.changing() as state:
                    state.allotted.pop(name, None)
            definition = self.definition(name, service, env)
            ports.extend((name, port) for port in recipe_for(definition).ports(definition))
            if service == _TOXIPROXY:
                ports.extend(
                    (f"edge {edge.name}", int(edge.listen.rpartition(":")[2])) for edge in self.edges().values()
                )
        return ports

    def _read_record(self, name: str) -> Record | None:
        return self._state.read().records.get(name)

    def _record(self, name: str) -> Record:
        record = self._read_record(name)
        if record is None:
            raise RuntimeProblem(f"{name} has not been started in project '{self.project}'; see 'make status'.")
        return record

    def _mark(self, record: Record, ended: str) -> None:
        with self._state.changing() as state:
            current = state.records.get(record.name)
            if current is not None and current.start_ticks == record.start_ticks and current.pid == record.pid:
                current.ended = ended

    def _erase(self, name: str) -> None:
        with self._state.changing() as state:
            state.records.pop(name, None)
        remove_target(self._layout, name)

    def _await(self, record: Record, timeout: float) -> None:
        """Until healthy; a one-shot until it has exited 0. Raises RuntimeProblem."""
        deadline = time.monotonic() + timeout
        while not self.arrived(record, min(_PROBE_SECONDS, timeout)):
            if time.monotonic() > deadline:
                raise RuntimeProblem(
                    f"{record.name} was not healthy within {timeout:.0f} s; 'make logs service={record.name}'."
                )
            time.sleep(0.03)

    def _stop_all(self, records: Sequence[Record], timeout: float | None) -> None:
        """Signal all, then wait for each until its grace period is over, then SIGKILL what is left of it."""
        begun = time.monotonic()
        lives = {record.name: life_of(record) for record in records}
        for record in records:
            life = lives[record.name]
            if life is not None:
                procfs.thaw_tree(life, record.scope())
                procfs.send(life, signal.Signals[self._definition_of(record).stop_signal])
        for record in records:
            grace = self._definition_of(record).stop_grace if timeout is None else timeout
            while life_of(record) is not None and time.monotonic() < begun + grace:
                time.sleep(0.01)
            life = life_of(record)
            if (life is not None or members_of(record)) and not procfs.kill_tree(life, record.scope()):
                raise RuntimeProblem(f"{record.name} (pid {record.pid}) did not die within 10 s of SIGKILL.")
            procfs.await_end(record.keeper)
            if lives[record.name] is not None:
                self._mark(record, "stopped")

    def _definition_of(self, record: Record) -> Service:
        return self.stack(record.env).service(record.service)

    def _take_down(self, progress: Progress) -> None:
        records = list(self._state.read().records.values())
        alive = [record for record in records if members_of(record)]
        while alive:
            needed = {name for record in alive for name in self._needs(record)}
            leaves = [record for record in alive if record.service not in needed] or alive
            progress(f"stopping {', '.join(record.name for record in leaves)}")
            self._stop_all(leaves, None)
            alive = [record for record in alive if record not in leaves]
        for record in records:
            remove_target(self._layout, record.name)
        self._warden.stop()
        with self._state.changing() as state:
            state.records.clear()

    def _needs(self, record: Record) -> set[str]:
        """All that a service reaches directly or through others, the proxies between included."""
        needs = {*self.stack(record.env).with_dependencies([record.service])} - {record.service}
        return needs | {_TOXIPROXY} if self._edges and self._definition_of(record).builds else needs

    def _status_of(self, record: Record) -> ServiceStatus:
        life = life_of(record)
        code = self.exit_code(record.name) if life is None else None
        verdict = self._layout.verdict(record.name)
        if life is not None:
            state = "paused" if life.stopped else "running"
        elif record.one_shot and code == 0:
            state = "done"
        else:
            state = "stopped" if record.ended == "stopped" else "exited"
        detail = (
            verdict.read_text() if verdict.exists() else ("killed" if record.ended == "killed" and life is None else "")
        )
        return ServiceStatus(
            service=record.name,
            state=state,
            pid=None if life is None else record.pid,
            exit_code=code,
            started_at=procfs.monotonic_start(record.start_ticks),
            memory_bytes=None if life is None else procfs.memory_of(stat.pid for stat in members_of(record)),
            memory_limit_bytes=record.memory_limit,
            port=record.port,
            restarts=record.lives - 1,
            detail=detail,
        )


def _anything_alive(state: ProjectState) -> bool:
    return any(life_of(record) is not None for record in state.records.values())


def _silent(_line: str) -> None:
    return
