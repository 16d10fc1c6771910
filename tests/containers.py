"""Throwaway servers as containers, by testcontainers: its Postgres and Redis modules, its generic container for the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.docker import engine
from infra.native.compose import Service
from infra.runtime import RuntimeProblem

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import WaitStrategy

LABEL = "backend-lab.test"
RYUK = "testcontainers/ryuk"


def prepare() -> None:
    """Without an image of the reaper: sweep what runs that were killed have left, and do without it."""
    if any(line.startswith(RYUK) for line in engine.run(["docker", "images", "--format", "{{.Repository}}"]).split()):
        return
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    listed = engine.run(
        ["docker", "ps", "-a", "--filter", f"label={LABEL}", "--format", f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}']
    )
    for line in listed.splitlines():
        container, _, owner = line.partition(" ")
        if not Path(f"/proc/{owner}").exists():
            engine.run(["docker", "rm", "-f", "-v", container])


@dataclass(frozen=True, slots=True)
class ContainerLife:
    """See tests.servers.Life."""

    id: str
    service: Service

    def kill(self) -> None:
        engine.run(["docker", "kill", self.id])
        engine.run(["docker", "wait", self.id])

    def start(self) -> None:
        engine.run(["docker", "start", self.id])
        self.wait_until_ready()

    def wait_until_ready(self, bound: float = 90.0) -> None:
        """The compose file's own health check. Raises RuntimeError with the log's end."""
        health = self.service.health
        assert health is not None
        words = ["sh", "-c", health.test[0]] if health.shell else list(health.test)
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline:
            try:
                engine.run(["docker", "exec", self.id, *words], timeout=5.0)
            except RuntimeProblem:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(
            f"{self.service.name} did not start: {engine.run(['docker', 'logs', '--tail', '20', self.id])}"
        )


@contextmanager
def running(service: Service) -> Iterator[ContainerLife]:
    """The service on its own port of the loopback interface, as docker-compose.yml describes it."""
    prepare()
    from testcontainers.core.container import DockerContainer

    port = service.ports[0].target
    container = _container(service, port).with_command(list(service.command))
    for name, value in service.environment.items():
        container.with_env(name, value)
    # Known before it starts, since Kafka advertises it; the engine's client takes an address beside the port.
    container.ports = {f"{port}/tcp": ("127.0.0.1", port)}  # type: ignore[dict-item]
    container.with_kwargs(labels={LABEL: str(os.getpid())}, mem_limit=service.memory_limit)
    container.waiting_for(_no_wait())
    try:
        DockerContainer.start(container)  # not the Postgres module's, which waits in its own way once more
        life = ContainerLife(container.get_wrapped_container().id, service)
        life.wait_until_ready()
        yield life
    finally:
        container.stop()


def _no_wait() -> WaitStrategy:
    """The modules wait at the address by which they believe to reach a container; ours is known, and so is its health check."""
    from testcontainers.core.waiting_utils import WaitStrategy

    class NoWait(WaitStrategy):
        def wait_until_ready(self, container: object) -> None:
            return

    return NoWait()


def _container(service: Service, port: int) -> DockerContainer:
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.community.redis import RedisContainer
    from testcontainers.core.container import DockerContainer

    match service.name:
        case "postgres":
            user, password = service.environment["POSTGRES_USER"], service.environment["POSTGRES_PASSWORD"]
            return PostgresContainer(service.image, username=user, password=password, dbname="postgres", port=port)
        case "redis":
            return RedisContainer(service.image, port=port)
        case _:
            return DockerContainer(service.image)
