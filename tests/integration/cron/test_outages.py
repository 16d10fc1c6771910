"""The database is killed: nothing is fired meanwhile, the API says so, and afterwards each instant has its row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from tests.integration.cron.stack import Stack, until
from tests.servers import PostgresServer, throwaway_postgres

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with throwaway_postgres() as made:
        yield made


@pytest.fixture
async def own(server: PostgresServer) -> AsyncIterator[Stack]:
    stack = Stack(server, extra={"CRON_MAX_JOBS": "2"})
    try:
        await stack.migrate()
        await stack.target.start()
        yield stack
    finally:
        await stack.target.stop()
        stack.stop()


async def test_the_database_killed_under_a_leader(own: Stack) -> None:
    await asyncio.gather(own.start("api"), own.start("node-1"), own.start("node-2"))
    await own.create("each-second")
    await own.create("second")
    full = await own.request("POST", "/v1/jobs", json=own.body("third"))
    assert (full.status, full.json["type"]) == (409, "urn:lab:too_many_jobs")

    async def effects(count: int) -> bool:
        return len(own.target.applied) >= count

    await until(lambda: effects(4), what="effects")
    await asyncio.to_thread(own.postgres.life.kill)
    answer = await own.request("GET", "/v1/jobs")
    assert (answer.status, answer.json["type"]) == (503, "urn:lab:unavailable")
    assert answer.headers["Retry-After"] == "1"
    # A run that was claimed before may still be called; after the lease (1 s, and a slow machine) nothing is.
    await asyncio.sleep(5)
    during = len(own.target.calls)
    await asyncio.sleep(2)
    assert len(own.target.calls) == during
    await asyncio.to_thread(own.postgres.life.start)
    await until(lambda: effects(during + 6), what="effects after the outage")
    for process in own.processes:
        assert process.popen.poll() is None, process.role
    rows = await own.sql(
        "SELECT scheduled_for - lag(scheduled_for) OVER (PARTITION BY job_id ORDER BY scheduled_for) AS gap FROM runs"
    )
    assert {row["gap"] for row in rows if row["gap"]} == {timedelta(seconds=1)}
    done = [(call.job, call.scheduled_for) for call in own.target.applied]
    assert len(done) == len(set(done))
