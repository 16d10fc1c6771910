"""The `docker` command: one place that runs it and turns its failures into sentences."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from infra.runtime import RuntimeProblem

_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_NUMBER = "com.docker.compose.container-number"
_STAND_IN = "lab.standin"


class State(msgspec.Struct, frozen=True, rename="pascal"):
    """Docker's view of one container's process. `pid` is 0 when none runs."""

    running: bool
    paused: bool
    pid: int
    exit_code: int
    started_at: str
    finished_at: str
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)

    def started(self) -> float:
        """Wall time in seconds."""
        return wall_seconds(self.started_at)


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None
    cmd: list[str] | None


class _HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    memory: int


class _Binding(msgspec.Struct, frozen=True, rename="pascal"):
    host_ip: str = msgspec.field(name="HostIp", default="")
    host_port: str = ""


class _Network(msgspec.Struct, frozen=True, rename="pascal"):
    ports: dict[str, list[_Binding] | None] | None
    networks: dict[str, object] | None = None


class Container(msgspec.Struct, frozen=True, rename="pascal"):
    """The part of `docker inspect` that is used here."""

    id: str
    path: str = msgspec.field(name="Name")
    state: State
    config: _Config
    host_config: _HostConfig
    network_settings: _Network

    @property
    def service(self) -> str:
        return (self.config.labels or {}).get(_SERVICE, "")

    @property
    def name(self) -> str:
        """As the runtime calls it: the service, with its number from the second copy on."""
        number = (self.config.labels or {}).get(_NUMBER, "1")
        return self.service if number == "1" else f"{self.service}-{number}"

    @property
    def full_name(self) -> str:
        """The engine's own, also a host name on its network."""
        return self.path.removeprefix("/")

    @property
    def networks(self) -> list[str]:
        """Names of the networks it is on; none while it is cut off."""
        return sorted(self.network_settings.networks or {})

    @property
    def command(self) -> str:
        return " ".join(self.config.cmd or [])

    def published(self, port: int) -> int | None:
        """The host's port for a container's port."""
        bindings = (self.network_settings.ports or {}).get(f"{port}/tcp") or []
        return next((int(binding.host_port) for binding in bindings if binding.host_port), None)


def wall_seconds(moment: str) -> float:
    """Docker's RFC 3339 time with nanoseconds as seconds since the epoch."""
    head, dot, tail = moment.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}{dot}{tail[:6]}+00:00").timestamp()


class Docker:
    """One compose project of one checkout. All methods block; each raises RuntimeProblem with Docker's own sentence."""

    def __init__(self, name: str, files: Sequence[Path], root: Path) -> None:
        self.name = name
        self._files = files
        self._root = root

    def compose(self, env: Mapping[str, str], *words: str, timeout: float = 300.0) -> str:
        files = [word for file in self._files for word in ("-f", str(file))]
        argv = ["docker", "compose", "-p", self.name, "--project-directory", str(self._root), *files, *words]
        return run(argv, env={**env, "COMPOSE_PROFILES": "*"}, timeout=timeout)

    def containers(self) -> list[Container]:
        """All services' of the project, running or not.

        What was started from an image that compose built has that image's service as a label, but no number.
        """
        labels = [f"label={_PROJECT}={self.name}", f"label={_NUMBER}"]
        filters = [word for label in labels for word in ("--filter", label)]
        listed = run(["docker", "ps", "-a", "-q", "--no-trunc", *filters]).split()
        if not listed:
            return []
        try:
            text = run(["docker", "inspect", *listed])
        except RuntimeProblem:  # one of them was removed meanwhile
            return [found for one in listed for found in _inspect(one)]
        return msgspec.json.decode(text, type=list[Container])


def _inspect(one: str) -> list[Container]:
    try:
        return msgspec.json.decode(run(["docker", "inspect", one]), type=list[Container])
    except RuntimeProblem:
        return []


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 60.0) -> str:
    """What it printed. Raises RuntimeProblem."""
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise RuntimeProblem("There is no 'docker' command here; install Docker or set LAB_RUNTIME=native.") from None
    except subprocess.TimeoutExpired:
        raise RuntimeProblem(f"'{' '.join(argv[:4])} ...' gave no answer within {timeout:.0f} s.") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        what = lines[-1] if lines else f"exit code {done.returncode}"
        raise RuntimeProblem(f"Docker said: {what}")
    return done.stdout


def answers(timeout: float = 5.0) -> str:
    """The engine's version. Raises RuntimeProblem when none answers."""
    return run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=timeout).strip()


def require_compose(timeout: float = 5.0) -> str:
    """The engine's version. Raises RuntimeProblem when none answers, or without the `docker compose` command."""
    version = answers(timeout)
    try:
        run(["docker", "compose", "version", "--short"], timeout=timeout)
    except RuntimeProblem:
        raise RuntimeProblem(
            "Docker's engine answers, but there is no 'docker compose' here (its version 2)."
        ) from None
    return version


def can_pull(image: str, within: float) -> bool:
    """Whether the registry gives an image: it came within so many seconds, or was on its way when they were over."""
    try:
        done = subprocess.run(["docker", "pull", image], capture_output=True, timeout=within, check=False)
    except subprocess.TimeoutExpired as late:
        return b"Pulling from" in (late.stdout or b"")
    return done.returncode == 0


def has_image(image: str) -> bool:
    try:
        run(["docker", "image", "inspect", "--format", "{{.Id}}", image], timeout=10.0)
    except RuntimeProblem:
        return False
    return True


def stand_ins(images: Iterable[str]) -> list[str]:
    """Those that are other builds under an official name. Who makes such an image says so in its label `lab.standin`."""
    words = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{_STAND_IN}"}}}}']
    local = [image for image in sorted(set(images)) if has_image(image)]
    return [image for image in local if run([*words, image]).strip()]
