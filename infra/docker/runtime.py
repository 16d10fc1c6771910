"""Runs docker-compose.yml with Docker. Containers are the state; `.lab/projects/<project>/docker.json` holds the rest.

One compose project per project of the checkout. `docker compose` creates containers, in waves in the order of their
dependencies, so that a lab's variables go only to what it starts; all else is asked from the engine directly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from infra.docker import engine
from infra.docker.engine import Container, Docker, run
from infra.docker.state import DockerStateFile, Started
from infra.native.compose import COMPLETED, STARTED, Service, Stack
from infra.native.environment import ProjectFile
from infra.native.layout import Layout
from infra.native.locking import locked
from infra.native.preflight import require_ports
from infra.native.recipes.http import answers
from infra.native.recipes.own import PROBE
from infra.native.render import PROCESSES, remove_target, render_config, write_targets
from infra.native.startup import fingerprint, is_one_shot
from infra.runtime import Edge, ProcessIdentity, Progress, RuntimeProblem, ServiceStatus

PORT_SHIFT = 5000
_TOXIPROXY = "toxiproxy"
_HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
"""As `x-hardened` of the compose file."""
_PROBE_SECONDS = 3.0
_POLL_SECONDS = 0.2
_WALL_AHEAD = time.time() - time.monotonic()
"""Taken once, so that two looks at one life of a container give the same start."""


class DockerRuntime:
    """One project of one checkout; implements `infra.runtime.Runtime`. Safe for several threads and processes."""

    name = "docker"

    def __init__(self, project: str, *, edges: bool, root: Path) -> None:
        self.project = project
        self._layout = Layout(root, root / ".lab", project, runtime="docker")
        self._state = DockerStateFile(self._layout.home / "docker.json", project)
        self._file = ProjectFile(self._layout)
        override = self._layout.config / "compose.override.yml"
        self._docker = Docker(compose_name(root, project), (root / "docker-compose.yml", override), root)
        self._override = override
        self._edges_asked = edges
        self._built = False
        state = self._state.read()
        self._configure(state.port_offset, state.edges if state.services else edges)

    # --- starting ---------------------------------------------------------------------------------------------------

    def up(
        self,
        services: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        timeout: float = 120.0,
    ) -> None:
        """See Runtime.up."""
        tell = progress or _silent
        with locked(self._layout.home / "up.lock", f"project '{self.project}'", timeout=300.0, waiting=progress):
            self._settle_project(tell)
            self._pull(services, env or {}, tell)
            self._build(tell)
            _Wave(self, list(services), dict(env or {}), tell, timeout).run()

    def start(self, service: str, *, wait: bool = True, timeout: float = 60.0) -> ProcessIdentity:
        container = self._container(service)
        if container.state.paused:
            run(["docker", "unpause", container.id])
        if not container.state.running:
            run(["docker", "start", container.id], timeout=timeout)
            with self._state.changing() as state:
                known = state.services.get(service)
                if known is not None:
                    known.lives, known.ended = known.lives + 1, ""
        if wait:
            self._await(service, timeout)
        return self._identity_of(self._container(service))

    def stop(self, service: str, *, timeout: float | None = None) -> None:
        container = self._find(service)
        if container is None or not container.state.running:
            return
        if container.state.paused:
            run(["docker", "unpause", container.id])
        grace = self._definition(service).stop_grace if timeout is None else timeout
        run(["docker", "stop", "-t", str(max(0, round(grace))), container.id], timeout=grace + 30.0)
        self._mark(service, "stopped")

    def restart(self, service: str, *, wait: bool = True) -> ProcessIdentity:
        self.stop(service)
        return self.start(service, wait=wait)

    # --- breaking ---------------------------------------------------------------------------------------------------

    def kill(self, service: str) -> ProcessIdentity:
        container = self._container(service)
        if not container.state.running:
            raise RuntimeProblem(f"{service} is not running, so there is nothing to kill.")
        identity = self._identity_of(container)
        if container.state.paused:  # the engine signals no paused container
            run(["docker", "unpause", container.id])
        run(["docker", "kill", "--signal", "KILL", container.id])
        deadline = time.monotonic() + 10.0
        while self._container(service).state.running:
            if time.monotonic() > deadline:
                raise RuntimeProblem(f"{service} (pid {identity.pid}) did not die within 10 s of SIGKILL.")
            time.sleep(0.02)
        self._mark(service, "killed")
        return identity

    def pause(self, service: str) -> ProcessIdentity:
        container = self._container(service)
        if not container.state.running:
            raise RuntimeProblem(f"{service} is not running, so it is not paused.")
        if not container.state.paused:
            run(["docker", "pause", container.id])
        if not self._container(service).state.paused:
            raise RuntimeProblem(f"{service} could not be paused.")
        return self._identity_of(container)

    def resume(self, service: str) -> ProcessIdentity:
        container = self._container(service)
        if container.state.paused:
            run(["docker", "unpause", container.id])
        if container.state.running and self._definition(service).builds:  # it may have stopped itself at a failpoint
            run(["docker", "exec", container.id, "sh", "-c", "kill -CONT -1 2>/dev/null || true"])
        return self._identity_of(container)

    def stands_still(self, service: str) -> bool:
        container = self._container(service)
        if container.state.paused or not container.state.running:
            return container.state.paused
        # Asked of the engine: its processes may be another machine's, and the first one is only docker-init.
        _, *states = run(["docker", "top", container.id, "-eo", "pid,stat"]).splitlines()
        return any(line.split()[1].startswith("T") for line in states)

    def cut(self, service: str) -> ProcessIdentity:
        """See Runtime.cut."""
        container = self._container(service)
        if not container.state.running:
            raise RuntimeProblem(f"{service} is not running, so there is nothing to cut off.")
        for network in container.networks:
            run(["docker", "network", "disconnect", network, container.id])
        if self._container(service).networks:
            raise RuntimeProblem(f"{service} could not be taken off its network.")
        return self._identity_of(container)

    def uncut(self, service: str) -> ProcessIdentity | None:
        container = self._find(service)
        if container is None:
            return None
        if not container.networks:
            names = [word for name in (container.service, container.full_name) for word in ("--alias", name)]
            run(["docker", "network", "connect", *names, f"{self._docker.name}_default", container.id])
        return self._identity_of(container) if container.state.running else None

    def scale(self, service: str, count: int) -> None:
        definition = self._definition(service)
        if count < 1 or definition.ports or is_one_shot(definition):
            raise RuntimeProblem(
                f"{service} cannot run {count} times: only workers without a published port scale, from 1 up."
            )
        env = self._file.environment(self._started(service).env)
        words = ("up", "-d", "--no-deps", "--no-build", "--no-recreate", "--scale", f"{service}={count}", service)
        self._docker.compose(env, *words)
        copies = [service, *(f"{service}-{number}" for number in range(2, count + 1))]
        for name in copies:
            self._await(name, 60.0)
        self._watch_copies(service, copies)

    def forget(self, service: str) -> None:
        self.stop(service)
        for container in self._docker.containers():
            if container.name == service:
                run(["docker", "rm", "-f", container.id])
        self._erase(service)

    def _watch_copies(self, service: str, copies: Sequence[str]) -> None:
        """Each by its own host name, since the service's is all of them; none that is gone."""
        port = _target_port(self._definition(service))
        for name, container in self.containers().items():
            if port is not None and container.service == service:
                write_targets(self._layout, name, self._definition(service), port, host=container.full_name)
        for file in (self._layout.prometheus / PROCESSES).glob(f"{service}-*.json"):
            number = file.stem.removeprefix(f"{service}-")
            if number.isdigit() and file.stem not in copies:
                remove_target(self._layout, file.stem)

    def down(self, *, progress: Progress | None = None) -> None:
        with locked(self._layout.home / "up.lock", f"project '{self.project}'", timeout=300.0, waiting=progress):
            containers = self._docker.containers()
            for container in containers:
                if container.state.paused:
                    run(["docker", "unpause", container.id])
            if containers and progress is not None:
                progress(f"stopping {', '.join(sorted(container.name for container in containers))}")
            self._compose_down()

    def remove(self) -> None:
        """`down`, and delete the project's volumes."""
        self._compose_down("--volumes")

    # --- looking ----------------------------------------------------------------------------------------------------

    def identity(self, service: str) -> ProcessIdentity | None:
        container = self._find(service)
        return self._identity_of(container) if container is not None and container.state.running else None

    def healthy(self, service: str) -> bool:
        container = self._find(service)
        return container is not None and container.state.running and self._probe(service, container)

    def status(self) -> list[ServiceStatus]:
        known = self._state.read().services
        containers = self._docker.containers()
        memory = _memory([one.id for one in containers if one.state.running])
        return [
            self._status_of(one, known.get(one.service), memory.get(one.id))
            for one in sorted(containers, key=lambda one: known[one.service].order if one.service in known else 0)
        ]

    def logs(self, service: str, *, lines: int = 50) -> list[str]:
        container = self._container(service)
        argv = ["docker", "logs", "--tail", str(lines), container.id]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=30, check=False)
        return (done.stdout + done.stderr).splitlines()[-lines:]

    def address(self, service: str) -> tuple[str, int]:
        definition = self._definition(service)
        if definition.ports:  # known without asking the engine, which costs 60 ms: labs ask often
            return ("127.0.0.1", definition.ports[0].published)
        container, port = self._find(service), _target_port(definition)
        if port is not None and container is not None and (published := container.published(port)) is not None:
            return ("127.0.0.1", published)
        raise RuntimeProblem(f"{service} publishes no port and has not been started.")

    def variable(self, name: str) -> str:
        return self._file.variable(name)

    def edges(self) -> dict[str, Edge]:
        return self._file.edges()

    def beside(self, service: str) -> list[str]:
        """See Runtime.beside: a container of our image in the network namespace of the other."""
        container = self._container(service)
        words = ["docker", "run", "--rm", "--interactive", *_HARDENED, "--network", f"container:{container.id}"]
        return [*words, "--label", f"com.docker.compose.project={self._docker.name}", self._own_image(), "python"]

    # --- for the waves ------------------------------------------------------------------------------------------------

    def stack(self, env: Mapping[str, str]) -> Stack:
        return self._file.stack(env)

    def with_edges(self) -> bool:
        return self._edges

    def known(self) -> dict[str, Started]:
        return self._state.read().services

    def containers(self) -> dict[str, Container]:
        return {container.name: container for container in self._docker.containers()}

    def create(self, names: Sequence[str], env: Mapping[str, str]) -> None:
        """(Re)create and start containers that depend on nothing more; does not wait."""
        words = ("up", "-d", "--no-deps", "--no-build", "--force-recreate", *names)
        self._docker.compose(self._file.environment(env), *words)
        stack = self.stack(env)
        with self._state.changing() as state:
            for name in names:
                old = state.services.get(name)
                state.started += 1
                lives = 1 if old is None else old.lives + 1
                state.services[name] = Started(state.started, dict(env), fingerprint(stack.service(name)), lives)
        for name in names:
            definition = stack.service(name)
            port = _target_port(definition)
            if port is not None and not is_one_shot(definition):
                write_targets(self._layout, name, definition, port, host=name)

    def require_ports(self, names: Sequence[str]) -> None:
        """Raises RuntimeProblem with the first port that somebody else has."""
        stack = self.stack({})
        ports = [(name, port.published) for name in names for port in stack.service(name).ports]
        require_ports(ports, self._file.port_variable)

    def arrived(self, name: str, container: Container | None) -> bool:
        """Healthy now, or for a one-shot: exited 0. Raises RuntimeProblem when it ended otherwise."""
        if container is None:
            return False
        one_shot = is_one_shot(self._definition(name))
        if container.state.running:
            return not one_shot and self._probe(name, container)
        if one_shot and container.state.exit_code == 0:
            return True
        last = next((line for line in reversed(self.logs(name, lines=20)) if line.strip()), "it wrote nothing")
        why = "out of memory" if container.state.oom_killed else last
        raise RuntimeProblem(f"{name} ended while starting (exit code {container.state.exit_code}): {why}")

    # --- inside -----------------------------------------------------------------------------------------------------

    def _configure(self, port_offset: int, edges: bool) -> None:
        self._edges = edges
        self._file.configure(port_offset=port_offset, edges=edges)

    def _settle_project(self, tell: Progress) -> None:
        """Fix ports and edges while nothing of the project runs; otherwise take over what was fixed."""
        with self._port_choice(), self._state.changing() as state:
            if any(container.state.running for container in self._docker.containers()):
                if self._edges_asked and not state.edges:
                    raise RuntimeProblem(
                        f"Project '{self.project}' runs without its edges; 'make down' first, then up with edges."
                    )
            else:
                state.port_offset, state.edges = self._free_offset(), self._edges_asked
            offset, edges = state.port_offset, state.edges
        self._configure(offset, edges)
        render_config(self._layout, self.edges().values(), listen_on="0.0.0.0")  # noqa: S104 (inside its container)
        self._override.write_text(_override(self._file.stack()))
        if offset:
            tell(f"another project of this checkout is up: all ports of '{self.project}' are shifted by {offset}")

    def _port_choice(self) -> AbstractContextManager[None]:
        return locked(self._layout.lab / "projects" / "lock", "the choice of ports")

    def _free_offset(self) -> int:
        taken = set()
        for file in (self._layout.lab / "projects").glob("*/docker.json"):
            if file.parent.name != self.project:
                other = Docker(compose_name(self._layout.root, file.parent.name), (), self._layout.root)
                if any(container.state.running for container in other.containers()):
                    taken.add(DockerStateFile(file, file.parent.name).read().port_offset)
        return next(offset for offset in range(0, 10 * PORT_SHIFT, PORT_SHIFT) if offset not in taken)

    def _build(self, tell: Progress) -> None:
        if self._built:
            return
        tell("image of our own processes: building (seconds when nothing has changed)")
        self._docker.compose(
            self._file.environment({}), "build", "--quiet", *self._file.stack().builders, timeout=1800.0
        )
        self._built = True

    def _pull(self, services: Sequence[str], env: Mapping[str, str], tell: Progress) -> None:
        """What is not local, one line each: a first start may take minutes. Raises RuntimeProblem."""
        stack = self.stack(env)
        built = {service.image for service in stack.services.values() if service.builds}
        wanted = [*stack.with_dependencies(services), *([_TOXIPROXY] if self._edges else [])]
        for image in dict.fromkeys(stack.service(name).image for name in wanted):
            if image not in built and not engine.has_image(image):
                tell(f"image {image}: pulling")
                engine.run(["docker", "pull", "--quiet", image], timeout=1800.0)

    def _own_image(self) -> str:
        return next(service.image for service in self._file.stack().services.values() if service.builds)

    def _compose_down(self, *words: str) -> None:
        if not self._override.exists():
            self._override.parent.mkdir(parents=True, exist_ok=True)
            self._override.write_text(_override(self._file.stack()))
        names = set(self.containers())
        self._docker.compose(self._file.environment({}), "down", "--remove-orphans", *words)
        with self._state.changing() as state:
            for name in names | state.services.keys():
                remove_target(self._layout, name)
            state.services.clear()

    def _definition(self, name: str) -> Service:
        """Of a service, or of a copy that `scale` made: `worker-2` is one of `worker` unless the file has a `worker-2`."""
        known = self._state.read().services.get(name)
        stack = self.stack({} if known is None else known.env)
        original, _, number = name.rpartition("-")
        if name not in stack.services and number.isdigit() and original in stack.services:
            return stack.service(original)
        return stack.service(name)

    def _started(self, service: str) -> Started:
        known = self._state.read().services.get(service)
        if known is None:
            raise RuntimeProblem(f"{service} has not been started in project '{self.project}'; see 'make status'.")
        return known

    def _find(self, name: str) -> Container | None:
        return self.containers().get(name)

    def _container(self, name: str) -> Container:
        container = self._find(name)
        if container is None:
            raise RuntimeProblem(f"{name} has not been started in project '{self.project}'; see 'make status'.")
        return container

    def _identity_of(self, container: Container) -> ProcessIdentity:
        started = round(container.state.started() - _WALL_AHEAD, 3)
        return ProcessIdentity(container.name, container.state.pid, started, container.command)

    def _probe(self, name: str, container: Container) -> bool:
        """The file's own health check, without waiting for the engine's next round."""
        definition = self._definition(name)
        health = definition.health
        if health is None:
            return True
        if health.test[:3] == PROBE:
            url = urlsplit(health.test[3])
            port = container.published(url.port or 80)
            if port is None:
                return False
            try:
                return answers(port, url.path or "/", _PROBE_SECONDS)
            except (OSError, http.client.HTTPException):
                return False
        words = ["sh", "-c", health.test[0]] if health.shell else list(health.test)
        try:
            run(["docker", "exec", container.id, *words], timeout=_PROBE_SECONDS)
        except RuntimeProblem:
            return False
        return True

    def _await(self, name: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self.arrived(name, self._find(name)):
            if time.monotonic() > deadline:
                raise RuntimeProblem(f"{name} was not healthy within {timeout:.0f} s; 'make logs service={name}'.")
            time.sleep(_POLL_SECONDS)

    def _mark(self, service: str, ended: str) -> None:
        with self._state.changing() as state:
            if service in state.services:
                state.services[service].ended = ended

    def _erase(self, service: str) -> None:
        with self._state.changing() as state:
            state.services.pop(service, None)
        remove_target(self._layout, service)

    def _status_of(self, one: Container, known: Started | None, memory: int | None) -> ServiceStatus:
        definition = self._definition(one.service)
        if one.state.running:
            state = "paused" if one.state.paused else "running"
        elif is_one_shot(definition) and one.state.exit_code == 0:
            state = "done"
        else:
            state = "stopped" if known is not None and known.ended == "stopped" else "exited"
        port = _target_port(definition)
        killed = known is not None and known.ended == "killed" and not one.state.running
        cut = one.state.running and not one.networks
        return ServiceStatus(
            service=one.name,
            state=state,
            pid=one.state.pid or None,
            exit_code=None if one.state.running else one.state.exit_code,
            started_at=self._identity_of(one).started_at,
            memory_bytes=memory,
            memory_limit_bytes=one.host_config.memory or None,
            port=None if port is None else one.published(port),
            restarts=0 if known is None else known.lives - 1,
            detail="out of memory" if one.state.oom_killed else "killed" if killed else "cut off" if cut else "",
        )


@dataclasses.dataclass(slots=True)
class _Wave:
    """One `up`: all or nothing, in the order of the dependencies."""

    runtime: DockerRuntime
    requested: Sequence[str]
    env: Mapping[str, str]
    tell: Progress
    timeout: float
    started: list[str] = dataclasses.field(default_factory=list)
    ready: set[str] = dataclasses.field(default_factory=set)
    begun: dict[str, float] = dataclasses.field(default_factory=dict)

    def run(self) -> None:
        order = self._order()
        containers = self.runtime.containers()
        fresh = [name for name in order if self._must_start(name, containers.get(name))]
        if not fresh:
            self.tell(f"all {len(order)} services are up already")
            return
        self.runtime.require_ports(
            [name for name in fresh if name not in containers or not containers[name].state.running]
        )
        finished = False
        try:
            self._start_in_order(order, fresh)
            finished = True
        finally:
            if not finished and self.started:
                self.tell(f"stopping what was started: {', '.join(self.started)}")
                for name in reversed(self.started):
                    self.runtime.stop(name)

    def _order(self) -> list[str]:
        stack = self.runtime.stack(self.env)
        order = stack.with_dependencies(self.requested)
        proxied = self.runtime.with_edges() and any(stack.service(name).builds for name in order)
        return [_TOXIPROXY, *(name for name in order if name != _TOXIPROXY)] if proxied else order

    def _must_start(self, name: str, container: Container | None) -> bool:
        known = self.runtime.known().get(name)
        if known is None or container is None:
            return True
        definition = self.runtime.stack(self.env).service(name)
        same = known.fingerprint == fingerprint(definition)
        if not container.state.running:
            return not (is_one_shot(definition) and container.state.exit_code == 0 and same)
        if name in self.requested and not same:
            self.tell(f"{name}: its settings have changed; starting it anew")
            return True
        if name in self.requested:
            self.runtime.resume(name)
        return False

    def _start_in_order(self, order: list[str], fresh: list[str]) -> None:
        deadline = time.monotonic() + self.timeout
        pending = [name for name in order if name in fresh]
        waiting = [name for name in order if name not in fresh]
        while pending or waiting:
            wave = [name for name in pending if self._may_start(name)]
            if wave:
                self._create(wave)
                pending = [name for name in pending if name not in wave]
                waiting += wave
            containers = self.runtime.containers()
            for name in [name for name in waiting if self.runtime.arrived(name, containers.get(name))]:
                waiting.remove(name)
                self.ready.add(name)
                if name in self.begun:
                    one_shot = is_one_shot(self.runtime.stack(self.env).service(name))
                    word = "done" if one_shot else "ready"
                    self.tell(f"{name}: {word} after {time.monotonic() - self.begun[name]:.1f} s")
            late = waiting or pending
            if late and time.monotonic() > deadline:
                raise RuntimeProblem(f"Not healthy within {self.timeout:.0f} s: {', '.join(late)}; see 'make logs'.")
            if waiting:
                time.sleep(_POLL_SECONDS)

    def _create(self, wave: list[str]) -> None:
        self.tell(f"{', '.join(wave)}: starting")
        for name in wave:
            self.begun[name] = time.monotonic()
        self.started += wave
        self.runtime.create(wave, self.env)

    def _may_start(self, name: str) -> bool:
        definition = self.runtime.stack(self.env).service(name)
        needs = dict(definition.depends_on)
        if self.runtime.with_edges() and definition.builds and name != _TOXIPROXY:
            needs[_TOXIPROXY] = COMPLETED
        return all(one in self.ready or (how == STARTED and one in self.started) for one, how in needs.items())


def compose_name(root: Path, project: str) -> str:
    """Checkouts do not share containers."""
    return f"lab-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]}-{project}"


def _target_port(definition: Service) -> int | None:
    """The container's port that this machine talks to."""
    if definition.ports:
        return definition.ports[0].target
    declared = definition.environment.get("HTTP_PORT") if definition.builds else None
    return None if declared is None else int(declared)


def _override(stack: Stack) -> str:
    """Workers publish no fixed port, so that they scale; the lab reaches each through one that the engine picks."""
    services = {}
    for name, service in stack.services.items():
        if service.builds and not service.ports and (port := service.environment.get("HTTP_PORT")):
            services[name] = {"ports": [f"127.0.0.1::{port}"]}
    return yaml.safe_dump({"services": services})


def _memory(ids: Sequence[str]) -> dict[str, int]:
    """Bytes in use by container id; empty where the engine's cgroup files cannot be read from here."""
    found = {}
    for one in ids:
        for pattern in (
            "/sys/fs/cgroup/system.slice/docker-{}.scope/memory.current",
            "/sys/fs/cgroup/docker/{}/memory.current",
            "/sys/fs/cgroup/memory/docker/{}/memory.usage_in_bytes",
        ):
            try:
                found[one] = int(Path(pattern.format(one)).read_text())
                break
            except OSError:
                continue
    return found


def _silent(_line: str) -> None:
    return
