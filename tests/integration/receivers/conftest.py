"""A real receivers process on a throwaway Postgres."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import aiohttp
import asyncpg
import pytest

from tests.servers import PostgresServer
from tests.stack import SimulatorProcess

MASTER = "test-receivers-master"
BEHAVIOURS = (
    "dead", "hang", "slow", "lying", "endless", "flapping", "gone", "rate_limited", "failing", "redirect",
)  # fmt: skip
_numbers = itertools.count(1)


@dataclass
class ReceiversProcess(SimulatorProcess):
    """`url` is that of the switches, `hooks` that of the receivers themselves."""

    module: ClassVar[str] = "services.simulators.receivers"
    ports_needed: ClassVar[int] = 2

    @property
    def hooks(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "SIM_RECEIVERS_HOOKS_PORT": str(self.ports[1]),
            "SIM_RECEIVERS_DATABASE_URL": self.database_url,
            "SIM_RECEIVERS_SECRET": MASTER,
        }


def signed(receiver: int, body: bytes, webhook: str = "msg_1", at: int | None = None) -> dict[str, str]:
    """Headers of Standard Webhooks, by a hand of our own."""
    timestamp = str(int(time.time()) if at is None else at)
    key = hashlib.sha256(f"{MASTER}/{receiver}".encode()).digest()
    signature = hmac.digest(key, f"{webhook}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": webhook,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


@dataclass(slots=True)
class Sender:
    """Posts webhooks and works the switches."""

    session: aiohttp.ClientSession
    receivers: ReceiversProcess

    async def post(self, receiver: int, body: bytes = b"{}", **headers: str) -> tuple[int, dict[str, str]]:
        sent = headers or signed(receiver, body)
        url = f"{self.receivers.hooks}/r/{receiver}"
        async with self.session.post(url, data=body, headers=sent, allow_redirects=False) as answer:
            await answer.read()
            return answer.status, dict(answer.headers)

    async def switch(self, name: str, **parameters: Any) -> int:
        url = f"{self.receivers.url}/lab/behaviours/{name}"
        async with self.session.put(url, json=parameters) as answer:
            return answer.status

    async def off(self, name: str) -> int:
        async with self.session.delete(f"{self.receivers.url}/lab/behaviours/{name}") as answer:
            return answer.status

    async def receipts(self) -> dict[str, Any]:
        async with self.session.get(f"{self.receivers.url}/lab/behaviours") as answer:
            return {one["name"]: one for one in await answer.json()}


@pytest.fixture(scope="module")
def receivers_database(postgres_server: PostgresServer) -> str:
    return postgres_server.url(f"receivers_{os.getpid()}_{next(_numbers)}")


@pytest.fixture(scope="module")
def receivers(receivers_database: str) -> Iterator[ReceiversProcess]:
    process = ReceiversProcess(receivers_database)
    process.start()
    yield process
    assert process.stop() == 0


@pytest.fixture
async def record(receivers_database: str, receivers: ReceiversProcess) -> AsyncIterator[asyncpg.Connection]:
    """The receivers' own record, as the checker reads it; every test begins with an empty one."""
    connection = await asyncpg.connect(receivers_database)
    await connection.execute("TRUNCATE requests")
    yield connection
    await connection.close()


@pytest.fixture
async def sender(receivers: ReceiversProcess, record: asyncpg.Connection) -> AsyncIterator[Sender]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        caller = Sender(session, receivers)
        yield caller
        for name in BEHAVIOURS:
            await caller.off(name)
