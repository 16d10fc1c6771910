"""Our own processes on databases and topics of their own: what the integration tests of all services share."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import aiohttp
import asyncpg
import msgspec

from infra.native.free_ports import free_ports
from services.contracts import topics
from services.kit.settings import ProcessSettings
from tests.databases import Copied, copy
from tests.servers import ROOT, PostgresServer

T = TypeVar("T")

READY_SECONDS = 60.0
POLL_SECONDS = 0.03
NOBODY = "127.0.0.1:1"
"""A broker that is not there."""


def client() -> aiohttp.ClientSession:
    """A session for one test or one call."""
    return aiohttp.ClientSession(
        trust_env=False, timeout=aiohttp.ClientTimeout(total=30), connector=aiohttp.TCPConnector(limit=0)
    )


async def until(
    condition: Callable[[], Awaitable[T | None]], *, within: float = READY_SECONDS, what: str = "the condition"
) -> T:
    """Ask again and again until the answer is truthy; fail after a bound."""
    deadline = time.monotonic() + within
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {within} s; last answer: {answer!r}")
        await asyncio.sleep(POLL_SECONDS)


def launch(module: list[str], environment: Mapping[str, str], log: Path | None = None) -> subprocess.Popen[bytes]:
    """`python -m module`, which dies with the test process. Without a log its errors are shown and the rest is dropped."""
    argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", *module]
    if log is None:
        return subprocess.Popen(argv, cwd=ROOT, env=dict(environment), stdout=subprocess.DEVNULL)
    with log.open("wb") as out:
        return subprocess.Popen(argv, cwd=ROOT, env=dict(environment), stdout=out, stderr=out)


@dataclass
class Process:
    """One of our processes. `port` serves its API, health, metrics and failpoints."""

    role: str
    port: int
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def terminate(self) -> int:
        """Politely; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(20)

    async def dead(self) -> bool:
        return self.popen.poll() is not None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """None for an empty body."""
        return msgspec.json.decode(self.body) if self.body else None


@dataclass
class ServiceStack:
    """A service's processes. Call `migrate`, then `start` what a test needs; everything started is stopped by `stop`.

    A subclass names the `service`, the `fixed` roles whose ports are known before they start, and adds its settings in
    `environment`.
    """

    service: ClassVar[str]
    fixed: ClassVar[tuple[str, ...]] = ("api",)

    postgres: PostgresServer
    bootstrap: str = NOBODY
    prefix: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}_")
    extra: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="lab-test-stack-")))

    def __post_init__(self) -> None:
        self.ports = dict(zip(self.fixed, free_ports(len(self.fixed)), strict=True))

    @property
    def database(self) -> str:
        return f"{self.prefix}{self.service}"

    @property
    def template(self) -> str:
        """What new databases of this service are copied from, on a server where one was migrated before."""
        return f"migrated_{self.service}_{self.environment()['LAB_PROFILE']}"

    @property
    def app_url(self) -> str:
        """As the service itself, which owns nothing."""
        return self.postgres.url(self.database, f"{self.service}_app", "lab-only-test")

    def process_settings(self) -> ProcessSettings:
        """For parts that run inside the test's own process."""
        return ProcessSettings(lab_profile=True, lab_prefix=self.prefix, http_port=1)

    def environment(self) -> dict[str, str]:
        """Of every process. What the caller's shell says of the service is not passed on."""
        mine = self.service.upper()
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith((f"{mine}_", "LAB_"))},
            "PYTHONPATH": str(ROOT),
            "LAB_PROFILE": "1",
            "LAB_PREFIX": self.prefix,
            "HTTP_HOST": "127.0.0.1",
            f"{mine}_ADMIN_DATABASE_URL": self.postgres.url(self.database),
            f"{mine}_DATABASE_URL": self.app_url,
            f"{mine}_KAFKA_BOOTSTRAP": self.bootstrap,
            **self.extra,
        }

    def variables(self, role: str) -> dict[str, str]:
        """What only this role is told."""
        del role
        return {}

    def module(self, role: str) -> list[str]:
        """What `python -m` is given."""
        return [f"services.{self.service}", role]

    async def migrate(self) -> None:
        """Make the service's database: on each server once by the service's own program, then as copies of that."""
        copied = await copy(self.postgres, self.template, self.database, self.app_url)
        if copied is Copied.DONE:
            return
        await self.migrate_by_program()
        if copied is Copied.NO_SOURCE:
            await copy(self.postgres, self.database, self.template)

    async def migrate_by_program(self) -> None:
        """As an operator does it; also where the database is there already."""
        run = launch(self.module("migrate"), self.environment())
        assert await asyncio.to_thread(run.wait) == 0

    async def create_topics(self) -> None:
        await topics.create(self.bootstrap, self.prefix)

    async def start(self, role: str, *, failpoints: str = "", environment: Mapping[str, str] | None = None) -> Process:
        """Start a role and wait until it is ready, or dead at a failpoint."""
        port = self.ports[role] if role in self.ports else free_ports(1)[0]
        own = {"HTTP_PORT": str(port), "LAB_FAILPOINTS": failpoints, **self.variables(role), **(environment or {})}
        log = self.folder / f"{role}-{len(self.processes)}.log"
        process = Process(role, port, launch(self.module(role), self.environment() | own, log), log)
        self.processes.append(process)
        await until(lambda: self._ready(process, may_die=bool(failpoints)), what=f"{role} ready")
        return process

    async def _ready(self, process: Process, *, may_die: bool) -> bool:
        if process.popen.poll() is not None:
            if may_die and process.popen.returncode == -signal.SIGKILL:
                return True
            raise AssertionError(f"{process.role} ended:\n{process.log.read_text()[-3000:]}")
        try:
            async with client() as session, session.get(f"{process.url}/health/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def died(self, process: Process) -> bool:
        return await process.dead()

    def stop(self) -> None:
        """Kill whatever still runs, paused processes too."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGCONT)
                process.popen.kill()
            process.popen.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str],
        session: aiohttp.ClientSession | None = None,
        role: str = "api",
    ) -> Answer:
        """One request. Raises aiohttp's errors, as when the process dies under it."""
        sent = dict(headers)
        if json is not None:
            data = msgspec.json.encode(json)
            sent.setdefault("Content-Type", "application/json")
        url = f"http://127.0.0.1:{self.ports[role]}{path}"
        async with (
            nullcontext(session) if session is not None else client() as used,
            used.request(
                method, url, data=data, headers=sent, skip_auto_headers=("Content-Type",), allow_redirects=False
            ) as got,
        ):
            return Answer(got.status, got.headers, await got.read())

    async def arm(self, process: Process, name: str, action: str = "kill", nth: int = 1, seconds: float = 0.0) -> None:
        """A failpoint."""
        body = {"action": action, "nth": nth, "seconds": seconds}
        async with client() as session, session.put(f"{process.url}/lab/failpoints/{name}", json=body) as response:
            assert response.status == 204, await response.text()

    async def metric(self, process: Process, line: str) -> float:
        """The value of this sample; 0 if it is not there."""
        async with client() as session, session.get(f"{process.url}/metrics") as response:
            text = await response.text()
        return next((float(each.split()[-1]) for each in text.splitlines() if each.startswith(line + " ")), 0.0)

    async def sql(self, query: str, *arguments: Any, database: str | None = None) -> list[asyncpg.Record]:
        """As the superuser, in the service's database or another one of this stack."""
        db = await asyncpg.connect(self.postgres.url(self.prefix + (database or self.service)))
        try:
            return list(await db.fetch(query, *arguments))
        finally:
            await db.close()


@dataclass
class SimulatorProcess:
    """A simulator alone. `start` returns once it is ready; every start is a life of its own on the same database."""

    module: ClassVar[str]
    ports_needed: ClassVar[int] = 1

    database_url: str
    lab: bool = True
    ports: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.ports = self.ports or list(free_ports(self.ports_needed))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def environment(self) -> dict[str, str]:
        """What a subclass adds to."""
        return os.environ | {"LAB_PROFILE": "1" if self.lab else "0", "HTTP_PORT": str(self.ports[0])}

    def launch(self) -> subprocess.Popen[bytes]:
        """A process whose readiness is the caller's to wait for."""
        return launch([self.module], self.environment())

    def start(self) -> None:
        self.process = self.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Blocks, so that fixtures without an event loop may call it."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process is None or self.process.poll() is None, f"{self.module} died at its start"
            try:
                with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(POLL_SECONDS)
        raise AssertionError(f"{self.module} was not ready in time")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Politely; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)
