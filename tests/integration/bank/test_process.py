from __future__ import annotations

import asyncio
import time

import aiohttp
import asyncpg
import pytest

from tests.integration.bank.conftest import BankProcess, Client
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration


async def test_a_bank_killed_in_the_middle_has_lost_nothing_that_it_answered(postgres_server: PostgresServer) -> None:
    bank = BankProcess(postgres_server.url("bank_killed"))
    bank.start()
    answered: list[str] = []

    async def charge(client: Client, number: int) -> None:
        status, body = await client.charge(f"k-{number}", source=f"tok_{number}")
        assert status == 201
        answered.append(body["id"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as session:
        client = Client(session, bank.url)
        calls = [asyncio.create_task(charge(client, number)) for number in range(2_000)]
        while len(answered) < 200:  # noqa: ASYNC110  any moment in the middle will do
            await asyncio.sleep(0.001)
        bank.kill()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(result, aiohttp.ClientError) for result in results)
        bank.start()
        connection = await asyncpg.connect(bank.database_url)
        durable = {row["id"] for row in await connection.fetch("SELECT id FROM charges")}
        assert set(answered) <= durable
        sums = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM charges) AS charges, (SELECT count(*) FROM references_seen) AS seen,"
            " (SELECT count(*) FROM effects WHERE kind = 'capture') AS captures"
        )
        assert sums is not None
        assert sums["charges"] == sums["seen"] == sums["captures"]
        assert (await client.charge("k-0", source="tok_0"))[0] == 200
        await connection.close()
    assert bank.stop() == 0


def test_two_banks_starting_at_once_on_no_database_both_come_up(postgres_server: PostgresServer) -> None:
    url = postgres_server.url("bank_twice")
    banks = [BankProcess(url), BankProcess(url)]
    for bank in banks:
        bank.process = bank.launch()
    for bank in banks:
        bank.wait_until_ready()
    assert [bank.stop() for bank in banks] == [0, 0]


async def test_a_bank_goes_on_with_the_record_of_an_earlier_version(postgres_server: PostgresServer) -> None:
    bank = BankProcess(postgres_server.url("bank_earlier"))
    bank.start()
    assert bank.stop() == 0
    connection = await asyncpg.connect(bank.database_url)
    await connection.execute("ALTER TABLE requests DROP COLUMN shard")
    await connection.close()
    bank.start()
    async with aiohttp.ClientSession() as session:
        assert (await Client(session, bank.url).charge("after"))[0] == 201
    assert bank.stop() == 0


async def test_outside_the_lab_profile_there_are_no_switches(postgres_server: PostgresServer) -> None:
    bank = BankProcess(postgres_server.url("bank_plain"), lab=False)
    bank.start()
    async with aiohttp.ClientSession() as session:
        client = Client(session, bank.url)
        assert (await client.call("PUT", "/lab/behaviours/declines", {"share": 1}))[0] == 404
        assert (await client.call("GET", "/lab/behaviours"))[0] == 404
        assert (await client.charge("r"))[0] == 201
    assert bank.stop() == 0


async def test_sigterm_finishes_what_was_begun_and_exits_0(postgres_server: PostgresServer) -> None:
    bank = BankProcess(postgres_server.url("bank_stopped"))
    bank.start()
    async with aiohttp.ClientSession() as session:
        client = Client(session, bank.url)
        await client.behave("latency", mean_ms=300, sigma=0)
        call = asyncio.create_task(client.charge("r"))
        deadline = time.monotonic() + 5
        while not (await client.receipt("latency"))["hits"]:
            assert time.monotonic() < deadline
        stopping = asyncio.create_task(asyncio.to_thread(bank.stop))
        assert (await call)[0] == 201
        assert await stopping == 0


async def test_a_bank_whose_database_connections_die_says_that_it_does_not_know_and_recovers(
    postgres_server: PostgresServer,
) -> None:
    bank = BankProcess(postgres_server.url("bank_cut_off"))
    bank.start()
    admin = await asyncpg.connect(postgres_server.admin_url)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(session, bank.url)
        calls = [asyncio.create_task(client.charge(f"r-{number}")) for number in range(300)]
        await calls[0]
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'bank_cut_off'")
        calls += [asyncio.create_task(client.charge(f"s-{number}")) for number in range(50)]
        answers = await asyncio.gather(*calls)
        assert {status for status, _ in answers} <= {201, 504}
        assert {problem["type"] for status, problem in answers if status == 504} <= {"urn:bank:outcome_unknown"}
        async with asyncio.timeout(10):
            while (await client.charge("r-0"))[0] != 200:
                pass
        again = await asyncio.gather(*(client.charge(f"r-{number}") for number in range(300)))
        assert {status for status, _ in again} <= {200, 201}
    record = await asyncpg.connect(bank.database_url)
    assert await record.fetchval("SELECT count(*) FROM charges WHERE reference LIKE 'r-%'") == 300
    await record.close()
    await admin.close()
    assert bank.stop() == 0
