"""A real bank process on a throwaway Postgres."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import aiohttp
import asyncpg
import pytest

from tests.servers import PostgresServer
from tests.stack import SimulatorProcess

KEY = "a-key-of-the-test"
SECRET = "a-secret-of-the-test"
_numbers = itertools.count()


@dataclass
class BankProcess(SimulatorProcess):
    module: ClassVar[str] = "services.simulators.bank"

    webhook_url: str = ""

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "SIM_BANK_DATABASE_URL": self.database_url,
            "SIM_BANK_API_KEY": KEY,
            "SIM_BANK_WEBHOOK_URL": self.webhook_url,
            "SIM_BANK_WEBHOOK_SECRET": SECRET,
        }


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
