"""Throwaway Postgres, Kafka and Redis on free ports, made with the same recipes as the native runtime.

One of each per test session (per worker with xdist), started when a test first asks. They die with the test process,
however it ends.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.native.compose import ComposeFile, Service
from infra.native.free_ports import free_ports
from infra.native.recipes import Site, recipe_for
from infra.native.recipes.kafka import minimal_environment

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "throwaway"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """`pid` is the postmaster's."""

    host: str
    port: int
    user: str
    password: str
    pid: int

    @property
    def admin_url(self) -> str:
        return self.url("postgres")

    def url(self, database: str, user: str | None = None, password: str | None = None) -> str:
        return f"postgresql://{user or self.user}:{password or self.password}@{self.host}:{self.port}/{database}"


@dataclass(frozen=True, slots=True)
class KafkaServer:
    bootstrap: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class RedisServer:
    url: str
    port: int
    pid: int


@contextmanager
def running(service: Service, mounts: Mapping[str, str], stop: signal.Signals) -> Iterator[int]:
    """Start a service by its recipe in a scratch folder below /tmp and yield its pid once it is ready."""
    folder = Path(tempfile.mkdtemp(prefix=f"lab-test-{service.name}-"))
    folder.chmod(0o755)
    site = Site(ROOT, ROOT / ".lab", folder / "data", {target: folder / name for target, name in mounts.items()})
    recipe = recipe_for(service)
    launch = recipe.prepare(service, site)
    # A test process that is killed takes its servers along.
    argv = ["setpriv", "--pdeathsig", "KILL", *launch.argv]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, env=dict(launch.env), cwd=launch.cwd, user=launch.user, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_ready(service, site, process, folder / "log")
        yield process.pid
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(
    service: Service, site: Site, process: subprocess.Popen[bytes], log: Path, bound: float = 60.0
) -> None:
    deadline = time.monotonic() + bound
    while time.monotonic() < deadline:
        try:
            if recipe_for(service).ready(service, site, timeout=2.0):
                return
        except (OSError, http.client.HTTPException):
            pass
        if process.poll() is not None:
            break
        time.sleep(0.03)
    raise RuntimeError(f"{service.name} did not start:\n{log.read_text()[-2000:]}")


def as_in_compose(name: str, port: int, **changes: object) -> Service:
    """The service of docker-compose.yml on another port, with fields replaced."""
    import dataclasses

    stack = ComposeFile(ROOT / "docker-compose.yml").resolve({f"{name.upper()}_PORT": str(port), **_PASSWORDS})
    return dataclasses.replace(stack.service(name), **changes)  # type: ignore[arg-type]  # field names are the caller's


_PASSWORDS = {"POSTGRES_PASSWORD": PASSWORD}


@contextmanager
def throwaway_postgres(**settings: str) -> Iterator[PostgresServer]:
    """A Postgres of one's own, for tests that kill it; `settings` are further `-c` parameters."""
    (port,) = free_ports(1)
    service = as_in_compose("postgres", port)
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    import dataclasses

    service = dataclasses.replace(service, command=(*service.command, *words))
    with running(service, {"/var/lib/postgresql/data": "data"}, signal.SIGINT) as pid:
        yield PostgresServer("127.0.0.1", port, "postgres", PASSWORD, pid)


@contextmanager
def throwaway_kafka(**environment: str) -> Iterator[KafkaServer]:
    """A one-node broker of one's own; `environment` are further KAFKA_* variables."""
    port, controller_port = free_ports(2)
    env = {**minimal_environment(port, controller_port), "KAFKA_HEAP_OPTS": "-Xms128m -Xmx256m", **environment}
    service = as_in_compose("kafka", port, environment=env)
    with running(service, {"/var/lib/kafka/data": "data"}, signal.SIGTERM) as pid:
        yield KafkaServer(f"127.0.0.1:{port}", port, pid)


@contextmanager
def throwaway_redis() -> Iterator[RedisServer]:
    """A Redis of one's own."""
    (port,) = free_ports(1)
    with running(as_in_compose("redis", port), {"/data": "data"}, signal.SIGTERM) as pid:
        yield RedisServer(f"redis://127.0.0.1:{port}/0", port, pid)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Shared by the session: make a database of your own in it (`admin_url` is the superuser's)."""
    with throwaway_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """Shared by the session: use topics and groups of your own. Topics are not created automatically."""
    with throwaway_kafka() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Shared by the session: use keys of your own."""
    with throwaway_redis() as server:
        yield server


def is_root() -> bool:
    return os.geteuid() == 0
