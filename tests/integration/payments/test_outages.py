"""The database goes away: before the bank is asked nothing is done, afterwards the same key leads to the one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.payments.stack import Answer, Stack, until
from tests.servers import Life, PostgresServer, throwaway_postgres

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with throwaway_postgres() as made:
        yield made


@pytest.fixture
def database(server: PostgresServer) -> Life:
    """A Postgres that the test may kill and start again."""
    return server.life


@pytest.fixture
async def own(server: PostgresServer) -> AsyncIterator[Stack]:
    stack = Stack(server, extra={"PAYMENTS_LEASE_MARGIN_SECONDS": "0.5", "PAYMENTS_BANK_TIMEOUT_SECONDS": "1"})
    try:
        await stack.migrate()
        yield stack
    finally:
        stack.stop()


async def test_the_database_killed_before_and_between_the_commits(own: Stack, database: Life) -> None:
    await own.start("bank")
    api = await own.start("api")
    await own.start("resolver")
    assert (await own.pay("warm")).status == 201
    await own.arm(api, "payments.after_bank_answer", "delay", seconds=2.0)

    paying = asyncio.create_task(own.pay("between"))

    async def charged() -> bool:
        return bool(await own.captures("between"))

    await until(charged, what="the charge")
    await asyncio.to_thread(database.kill)
    between = await paying
    assert (between.status, between.json["type"]) == (503, "urn:lab:outcome_unknown")
    before = await own.pay("before")
    assert (before.status, before.json["type"]) == (503, "urn:lab:unavailable")
    assert before.headers["Retry-After"] == "1"

    await asyncio.to_thread(database.start)

    async def answered() -> Answer | None:
        answer = await own.pay("between")
        return None if answer.status in (409, 503) else answer

    answer = await until(answered, what="an answer to the same key")
    assert (answer.status, answer.json["status"]) == (201, "captured")
    assert (await own.pay("before")).status == 201
    assert await own.captures("between") == await own.captures("before") == 1
    for process in own.processes[1:]:
        assert process.popen.poll() is None, process.role
