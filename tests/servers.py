"""Throwaway Postgres, Kafka and Redis on free ports, under the runtime of this checkout: the native runtime's recipes, or
testcontainers where the lab runs on Docker (LAB_RUNTIME=docker). The same fixtures and the same tests either way.

One of each per test session (per worker with xdist), started when a test first asks. Native ones die with the test
process, however it ends; containers are removed by testcontainers' reaper, or by the next run where its image is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
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
from typing import Protocol

import psutil
import pytest

from infra.choose import choose
from infra.native.compose import ComposeFile, Service
from infra.native.free_ports import free_ports
from infra.native.recipes import Site, recipe_for
from infra.native.recipes.base import LOOPBACK, Launch
from infra.native.recipes.kafka import minimal_environment

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "throwaway"
SESSION_SECONDS = "2"
"""For consumer groups whose members a test kills, in the services' settings: their partitions wait for the dead so long."""


class Life(Protocol):
    """A server that a test of its own may kill and start again on the same data and port. Both block."""

    def kill(self) -> None:
        """SIGKILL to the whole of it; returns when it is gone."""

    def start(self) -> None:
        """Start it again; returns when it serves."""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    host: str
    port: int
    user: str
    password: str
    life: Life

    @property
    def admin_url(self) -> str:
        return self.url("postgres")

    def url(self, database: str, user: str | None = None, password: str | None = None) -> str:
        return f"postgresql://{user or self.user}:{password or self.password}@{self.host}:{self.port}/{database}"


@dataclass(frozen=True, slots=True)
class KafkaServer:
    bootstrap: str
    port: int
    life: Life


@dataclass(frozen=True, slots=True)
class RedisServer:
    url: str
    port: int
    life: Life


@dataclass(frozen=True, slots=True)
class SearchServer:
    url: str
    port: int
    life: Life


@dataclass(frozen=True, slots=True)
class ConnectServer:
    url: str
    port: int
    bootstrap: str
    life: Life


@dataclass(slots=True)
class NativeLife:
    """A process made by a recipe."""

    service: Service
    site: Site
    argv: list[str]
    launch: Launch
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env=dict(self.launch.env), cwd=self.launch.cwd, user=self.launch.user,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        _wait_until_ready(self.service, self.site, self.process, self.log)

    def kill(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        process = psutil.Process(self.process.pid)
        children = process.children(recursive=True)
        for one in (process, *children):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait(10)
        psutil.wait_procs(children, timeout=10)

    def stop(self, how: signal.Signals) -> None:
        """Its data is thrown away, so most are killed: a broker takes ten seconds to end by itself."""
        if self.process is None or self.process.poll() is not None:
            return
        if how is signal.SIGKILL:
            self.kill()
            return
        self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def running(service: Service, mounts: Mapping[str, str], stop: signal.Signals) -> Iterator[NativeLife]:
    """Start a service by its recipe in a scratch folder below /tmp and yield it once it is ready."""
    folder = Path(tempfile.mkdtemp(prefix=f"lab-test-{service.name}-"))
    folder.chmod(0o755)
    site = Site(ROOT, ROOT / ".lab", folder / "data", {target: folder / name for target, name in mounts.items()})
    launch = recipe_for(service).prepare(service, site)
    # A test process that is killed takes its servers along.
    life = NativeLife(service, site, ["setpriv", "--pdeathsig", "KILL", *launch.argv], launch, folder / "log")
    try:
        life.start()
        yield life
    finally:
        life.stop(stop)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(
    service: Service, site: Site, process: subprocess.Popen[bytes], log: Path, bound: float = 120.0
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
    stack = ComposeFile(ROOT / "docker-compose.yml").resolve({f"{name.upper()}_PORT": str(port), **_PASSWORDS})
    return dataclasses.replace(stack.service(name), **changes)  # type: ignore[arg-type]  # field names are the caller's


_PASSWORDS = {"POSTGRES_PASSWORD": PASSWORD}


@functools.cache
def on_docker() -> bool:
    """Whether this checkout's runtime is Docker."""
    return choose()[0] == "docker"


@contextmanager
def _server(service: Service, mounts: Mapping[str, str], stop: signal.Signals) -> Iterator[Life]:
    if on_docker():
        from tests import containers

        with containers.running(service) as container:
            yield container
    else:
        with running(service, mounts, stop) as process:
            yield process


@contextmanager
def throwaway_postgres(**settings: str) -> Iterator[PostgresServer]:
    """A Postgres of one's own, for tests that kill it; `settings` are further `-c` parameters."""
    (port,) = free_ports(1)
    service = as_in_compose("postgres", port)
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    service = dataclasses.replace(service, command=(*service.command, *words))
    # At once, but with its shared memory given back, which SIGKILL would leave.
    with _server(service, {"/var/lib/postgresql/data": "data"}, signal.SIGQUIT) as life:
        yield PostgresServer("127.0.0.1", port, "postgres", PASSWORD, life)


_SHORT_SESSIONS = {"KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000"}
SHORT_LIVED = "-XX:TieredStopAtLevel=1"
"""The second compiler costs a server of a few minutes more work than it saves."""


@contextmanager
def throwaway_kafka(**environment: str) -> Iterator[KafkaServer]:
    """A one-node broker of one's own; `environment` are further KAFKA_* variables."""
    port, controller_port = free_ports(2)
    env = {
        **minimal_environment(port, controller_port),
        "KAFKA_HEAP_OPTS": f"-Xms128m -Xmx256m {SHORT_LIVED}",
        **_SHORT_SESSIONS,
        **environment,
    }
    if on_docker():
        env["KAFKA_LISTENERS"] = env["KAFKA_LISTENERS"].replace(f"PLAINTEXT://{LOOPBACK}", "PLAINTEXT://0.0.0.0")
    service = as_in_compose("kafka", port, environment=env)
    with _server(service, {"/var/lib/kafka/data": "data"}, signal.SIGKILL) as life:
        yield KafkaServer(f"127.0.0.1:{port}", port, life)


@contextmanager
def throwaway_redis() -> Iterator[RedisServer]:
    """A Redis of one's own."""
    (port,) = free_ports(1)
    with _server(as_in_compose("redis", port), {"/data": "data"}, signal.SIGKILL) as life:
        yield RedisServer(f"redis://127.0.0.1:{port}/0", port, life)


@contextmanager
def throwaway_search() -> Iterator[SearchServer]:
    """A search engine of one's own: one node, 512 MiB of heap."""
    port, transport = free_ports(2)
    variables = {
        "SEARCH_ENGINE_PORT": str(port),
        "SEARCH_ENGINE_TRANSPORT_PORT": str(transport),
        "SEARCH_ENGINE_HEAP": f"-Xms512m -Xmx512m {SHORT_LIVED}",
    }
    service = ComposeFile(ROOT / "docker-compose.yml").resolve(variables).service("search-engine")
    with _server(service, {"/usr/share/elasticsearch/data": "data"}, signal.SIGKILL) as life:
        yield SearchServer(f"http://127.0.0.1:{port}", port, life)


@contextmanager
def throwaway_connect(bootstrap: str, prefix: str = "") -> Iterator[ConnectServer]:
    """A Kafka Connect of one's own, with Debezium's connector, on a broker that is there; `prefix` is its topics'."""
    if on_docker():
        pytest.skip("In a container Connect does not reach a throwaway broker, which advertises 127.0.0.1.")
    (port,) = free_ports(1)
    host, _, kafka_port = bootstrap.rpartition(":")
    variables = {
        "CONNECT_PORT": str(port),
        "CONNECT_HOST": LOOPBACK,
        "BIND_HOST": LOOPBACK,
        "KAFKA_HOST": host,
        "KAFKA_INTERNAL_PORT": kafka_port,
        "LAB_PREFIX": prefix,
    }
    service = ComposeFile(ROOT / "docker-compose.yml").resolve(variables).service("connect")
    heap = f"{service.environment['HEAP_OPTS']} {SHORT_LIVED}"
    soon = {"CONNECT_SESSION_TIMEOUT_MS": "3000", "CONNECT_HEARTBEAT_INTERVAL_MS": "500", "HEAP_OPTS": heap}
    service = dataclasses.replace(service, environment={**service.environment, **soon})
    with _server(service, {}, signal.SIGKILL) as life:
        yield ConnectServer(f"http://127.0.0.1:{port}", port, bootstrap, life)


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


@pytest.fixture(scope="session")
def search_server() -> Iterator[SearchServer]:
    """Shared by the session: use indices of your own."""
    with throwaway_search() as server:
        yield server


@pytest.fixture(scope="session")
def connect_server(kafka_server: KafkaServer) -> Iterator[ConnectServer]:
    """Shared by the session, on its broker: use connectors of your own."""
    with throwaway_connect(kafka_server.bootstrap) as server:
        yield server


def is_root() -> bool:
    return os.geteuid() == 0
