"""A real target process on a throwaway Postgres."""

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

_numbers = itertools.count(1)


@dataclass
class TargetProcess(SimulatorProcess):
    module: ClassVar[str] = "services.simulators.target"

    remembers_seconds: float = 3600

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "SIM_TARGET_DATABASE_URL": self.database_url,
            "SIM_TARGET_REMEMBERS_SECONDS": str(self.remembers_seconds),
        }


@dataclass(slots=True)
class Scheduler:
    """Calls the target as a scheduler does; `fire` gives status and body."""

    session: aiohttp.ClientSession
    url: str
    job: str

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, **more) as answer:
            kind = answer.content_type
            return answer.status, (await answer.json() if kind.endswith("json") else await answer.text())

    async def fire(self, run: str | None, epoch: int | str | None, at: str = "", **headers: str) -> tuple[int, Any]:
        target = at and f"/{at}"
        sent = {"Cron-Job-Id": self.job, "Cron-Scheduled-For": "2026-01-01T00:00:00+00:00"}
        sent |= {} if run is None else {"Cron-Run-Id": run}
        sent |= {} if epoch is None else {"Cron-Epoch": str(epoch)}
        return await self.call("POST", f"/v1/effects{target}", headers=sent | headers)


@pytest.fixture(scope="module")
def target_database(postgres_server: PostgresServer) -> str:
    return postgres_server.url(f"target_{os.getpid()}_{next(_numbers)}")


@pytest.fixture(scope="module")
def target(target_database: str) -> Iterator[TargetProcess]:
    process = TargetProcess(target_database)
    process.start()
    yield process
    assert process.stop() == 0


@pytest.fixture
async def record(target_database: str, target: TargetProcess) -> AsyncIterator[asyncpg.Connection]:
    """The target's own record, as the checker reads it; every test begins with an empty one."""
    connection = await asyncpg.connect(target_database)
    await connection.execute("TRUNCATE effects, epochs, applied_runs")
    yield connection
    await connection.close()


@pytest.fixture
async def scheduler(target: TargetProcess, record: asyncpg.Connection) -> AsyncIterator[Scheduler]:
    async with aiohttp.ClientSession() as session:
        caller = Scheduler(session, target.url, f"job_{next(_numbers)}")
        yield caller
        for name in ("without_dedup", "without_fencing", "slow_answer", "holds_request"):
            await caller.call("DELETE", f"/lab/behaviours/{name}")
