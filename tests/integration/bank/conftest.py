"""A real bank process on a throwaway Postgres."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from infra.native.free_ports import free_ports
from tests.servers import PostgresServer

ROOT = Path(__file__).resolve().parents[3]
KEY = "a-key-of-the-test"
SECRET = "a-secret-of-the-test"
_numbers = itertools.count()


@dataclass(slots=True)
class BankProcess:
    """`start` returns once it is ready. Every start is a life of its own on the same database."""

    database_url: str
    webhook_url: str = ""
    port: int = field(default_factory=lambda: free_ports(1)[0])
    lab: bool = True
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> subprocess.Popen[bytes]:
        env = os.environ | {
            "LAB_PROFILE": "1" if self.lab else "0",
            "HTTP_PORT": str(self.port),
            "SIM_BANK_DATABASE_URL": self.database_url,
            "SIM_BANK_API_KEY": KEY,
            "SIM_BANK_WEBHOOK_URL": self.webhook_url,
            "SIM_BANK_WEBHOOK_SECRET": SECRET,
        }
        argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "services.simulators.bank"]
        return subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        self.process = self.launch()
        self.wait_until_ready()

    def wait_until_ready(self, bound: float = 30.0) -> None:
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline:
            assert self.process is None or self.process.poll() is None, "the bank died at its start"
            try:
                with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the bank was not ready in time")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@dataclass(slots=True)
class Client:
    """A merchant that talks to the bank; `call` gives status and body."""

    session: aiohttp.ClientSession
    url: str

    async def call(self, method: str, path: str, body: object = None, **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {KEY}"} | more.pop("headers", {})
        arguments: dict[str, Any] = {"headers": headers} | more
        if body is not None:
            arguments["json"] = body
        async with self.session.request(method, self.url + path, **arguments) as answer:
            kind = answer.content_type
            return answer.status, (await answer.json() if kind.endswith("json") else await answer.text())

    async def charge(self, reference: str | None, source: str = "tok_a", **changes: Any) -> tuple[int, Any]:
        body = {"reference": reference, "source": source, "amount": 1000, "currency": "EUR", "capture": True} | changes
        return await self.call("POST", "/v1/charges", body)

    async def behave(self, name: str, **parameters: Any) -> None:
        status, body = await self.call("PUT", f"/lab/behaviours/{name}", parameters)
        assert status == 204, body

    async def receipt(self, name: str) -> Any:
        _, listing = await self.call("GET", "/lab/behaviours")
        return next(one for one in listing if one["name"] == name)


@pytest.fixture(scope="module")
def bank_database(postgres_server: PostgresServer) -> str:
    return postgres_server.url(f"bank_{os.getpid()}_{next(_numbers)}")


@pytest.fixture(scope="module")
def bank(bank_database: str) -> Iterator[BankProcess]:
    process = BankProcess(bank_database)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def client(bank: BankProcess) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        merchant = Client(session, bank.url)
        yield merchant
        _, listing = await merchant.call("GET", "/lab/behaviours")
        for one in listing:
            await merchant.call("DELETE", f"/lab/behaviours/{one['name']}")


@pytest.fixture
async def record(bank_database: str, bank: BankProcess) -> AsyncIterator[asyncpg.Connection]:
    """The bank's own record, as the checker reads it."""
    connection = await asyncpg.connect(bank_database)
    yield connection
    await connection.close()


@pytest.fixture
def reference() -> str:
    return f"ref-{os.getpid()}-{next(_numbers)}"
