"""What a lab may ask of the machine, the same with Docker and without.

Both runtimes read docker-compose.yml. A runtime is bound to a *project*: `dev` is what a learner's `make up` holds, `lab`
is what an experiment starts. Projects share no data; a second one runs beside the first with all its ports shifted.
All calls block; call them from a thread where an event loop runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Progress = Callable[[str], None]
"""Called with one line of text for each step that takes longer than a blink."""


class RuntimeProblem(Exception):
    """Something the user can act on, said in one sentence. Printed without a traceback; exit code 1."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One life of a service: a pid alone may be reused, so its start time goes with it.

    `started_at` is in seconds on the monotonic clock (the same for all processes of the machine).
    `command` is for people.
    """

    service: str
    pid: int
    started_at: float
    command: str


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A row of `make status`. `state`: running, paused, done (one-shot that exited 0), exited, stopped."""

    service: str
    state: str
    pid: int | None
    exit_code: int | None
    started_at: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    port: int | None
    restarts: int
    detail: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A client -> server link that goes through Toxiproxy. `name` is also the proxy's name there."""

    name: str
    client: str
    server: str
    listen: str
    upstream: str


class Runtime(Protocol):
    """One project's processes. Every method raises RuntimeProblem with a sentence that helps."""

    name: str
    project: str

    def up(
        self,
        services: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        timeout: float = 120.0,
    ) -> None:
        """Start the named services and what they depend on; return when all are healthy and one-shots have exited 0.

        `env` is laid over the file's variables (what `${NAME}` sees) for the services that this call starts, and is kept
        for their later restarts. A dependency that runs already is left alone, and so is a one-shot that has completed
        with the same variables. On failure or KeyboardInterrupt all that this call started is stopped again.
        """

    def start(self, service: str, *, wait: bool = True, timeout: float = 60.0) -> ProcessIdentity:
        """Start a service again as it last ran; with `wait` return when it is healthy."""

    def stop(self, service: str, *, timeout: float | None = None) -> None:
        """SIGTERM (or the file's stop_signal), then SIGKILL after the grace period. No error if it is not running."""

    def restart(self, service: str, *, wait: bool = True) -> ProcessIdentity:
        """Stop and start."""

    def kill(self, service: str) -> ProcessIdentity:
        """SIGKILL the whole process tree; return who died, after proof that it is gone. Nothing starts it again."""

    def pause(self, service: str) -> ProcessIdentity:
        """Freeze every process of the service, verified."""

    def resume(self, service: str) -> ProcessIdentity:
        """Thaw what `pause` froze, and what has stopped itself. Idempotent."""

    def stands_still(self, service: str) -> bool:
        """Whether `pause` froze it or a process of it has stopped itself. What is gone does not stand still."""

    def cut(self, service: str) -> ProcessIdentity:
        """Take the service off the network: it runs on, reaches nobody and nobody reaches it. Verified; idempotent.

        Only where each service has a network interface of its own (Docker); otherwise a RuntimeProblem that says so.
        """

    def uncut(self, service: str) -> ProcessIdentity | None:
        """Put what `cut` took off back under its names; None where the service has not been started. Idempotent."""

    def scale(self, service: str, count: int) -> None:
        """Run `count` copies of a service that publishes no port. Copies are named service-2, service-3 ..."""

    def forget(self, service: str) -> None:
        """Stop a service and forget its environment, so that the next `up` begins anew."""

    def identity(self, service: str) -> ProcessIdentity | None:
        """Who runs now, if anyone."""

    def healthy(self, service: str) -> bool:
        """One probe of the service's health check, at most 3 s."""

    def status(self) -> list[ServiceStatus]:
        """All services of the project that were ever started and not forgotten."""

    def logs(self, service: str, *, lines: int = 50) -> list[str]:
        """The last lines the service wrote."""

    def address(self, service: str) -> tuple[str, int]:
        """Host and port at which this machine reaches the service's published (or allotted) port."""

    def variable(self, name: str) -> str:
        """Value of one of the file's variables (`POSTGRES_PORT`, `POSTGRES_PASSWORD` ...) as this project sees it."""

    def edges(self) -> dict[str, Edge]:
        """The links of x-edges by name."""

    def beside(self, service: str) -> list[str]:
        """The beginning of a command (a Python of ours follows its arguments) that runs in the service's network.

        It talks on stdin and stdout and ends when stdin is closed.
        """

    def down(self, *, progress: Progress | None = None) -> None:
        """Stop everything of the project in reverse order of start. No process is left behind."""
