"""Evidence and clean-up against a real Postgres and a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from labs.engine.cleanup import drop, new_prefix
from labs.engine.clock import RunClock
from labs.engine.evidence import StoreEvidence, Stores
from labs.engine.model import EvidenceError, NotApplicableError, Variant, VariantRole
from labs.invariants.payments import ledger_balances
from services.kit import kafka

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def evidence(stores: Stores) -> AsyncIterator[StoreEvidence]:
    prefix = new_prefix()
    connection = await stores.connect("postgres")
    await connection.execute(f'CREATE DATABASE "{prefix}payments"')
    await connection.close()
    variant = Variant(role=VariantRole.NAIVE, roles={"sut": "naive"}, processes=("naive",))
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield StoreEvidence("main", "naive", variant, (), (), prefix, stores, RunClock(), session)
    await drop(stores, prefix=prefix)


async def create_topic(stores: Stores, *names: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=1) for name in names])
    async with asyncio.timeout(30):
        while not set(names) <= set(await admin.list_topics()):  # noqa: ASYNC110  it is told a moment after it was made
            await asyncio.sleep(0.05)
    await admin.close()


async def topics(stores: Stores) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.bootstrap)
    await admin.start()
    names = set(await admin.list_topics())
    await admin.close()
    return names


async def test_rows_come_from_the_database_with_the_prefix_of_the_run(evidence: StoreEvidence) -> None:
    (row,) = await evidence.sql("payments", "SELECT current_database()::text AS name, $1::int AS n", 7)
    assert (row["name"], row["n"]) == (f"{evidence.prefix}payments", 7)


async def test_a_missing_database_table_or_column_is_not_applicable_and_a_wrong_query_an_evidence_error(
    evidence: StoreEvidence,
) -> None:
    for database, query in (
        ("ledger", "SELECT 1"),
        ("payments", "SELECT 1 FROM ledger_entries"),
        ("payments", "SELECT datnome FROM pg_database"),
    ):
        with pytest.raises(NotApplicableError):
            await evidence.sql(database, query)
    with pytest.raises(EvidenceError, match="payments could not be read"):
        await evidence.sql("payments", "SELEKT 1")


async def test_evidence_cannot_write(evidence: StoreEvidence) -> None:
    with pytest.raises(EvidenceError, match="read-only"):
        await evidence.sql("payments", "CREATE TABLE planted (id int)")


async def test_a_topic_is_read_to_its_end_with_headers_and_without_aborted_records(evidence: StoreEvidence) -> None:
    name = f"{evidence.prefix}payments.payment.v1"
    await create_topic(evidence.stores, name)
    producer = AIOKafkaProducer(bootstrap_servers=evidence.stores.bootstrap, transactional_id=evidence.prefix)
    async with kafka.running(producer):
        async with producer.transaction():
            for number in range(500):
                headers = [("ce_id", f"evt_{number}".encode())]
                await producer.send(name, b"{}", key=f"pay_{number}".encode(), headers=headers)
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"{}", key=b"pay_aborted")
        await producer.abort_transaction()
    records = await evidence.topic("payments.payment.v1")
    assert {record.key for record in records} == {f"pay_{number}" for number in range(500)}
    assert all(record.headers["ce_id"] == (record.key or "").replace("pay", "evt") for record in records)
    assert [(r.partition, r.offset) for r in records] == sorted((r.partition, r.offset) for r in records)
    assert all(-5 < record.at < 60 for record in records)


async def test_an_empty_topic_gives_nothing_and_a_missing_one_is_not_applicable(evidence: StoreEvidence) -> None:
    await create_topic(evidence.stores, f"{evidence.prefix}empty")
    assert await evidence.topic("empty") == ()
    with pytest.raises(NotApplicableError, match="has no topic missing"):
        await evidence.topic("missing")


async def test_a_store_that_does_not_answer_is_an_evidence_error(evidence: StoreEvidence) -> None:
    with pytest.raises(EvidenceError, match="Prometheus did not answer"):
        await evidence.metric("up")


async def test_wall_clock_times_become_times_of_the_run(evidence: StoreEvidence) -> None:
    assert evidence.since_start(datetime.now(UTC) + timedelta(seconds=60)) == pytest.approx(60, abs=5)


async def test_dropping_a_prefix_leaves_others_and_dropping_all_leaves_what_is_not_a_labs(
    evidence: StoreEvidence,
) -> None:
    stores, other = evidence.stores, new_prefix()
    await create_topic(stores, f"{evidence.prefix}one", f"{other}one", f"plain{other}")
    connection = await stores.connect("postgres")
    await connection.execute(f'CREATE DATABASE "{other}bank"')
    await connection.execute(f'CREATE DATABASE "plain{other}"')
    assert await drop(stores, prefix=evidence.prefix) == ""
    names = await _databases(connection)
    assert f"{evidence.prefix}payments" not in names
    assert {f"{other}bank", f"plain{other}"} <= names
    assert await drop(stores) == ""
    assert f"{other}bank" not in await _databases(connection)
    assert f"plain{other}" in await _databases(connection)
    await connection.execute(f'DROP DATABASE "plain{other}"')
    await connection.close()
    left = await topics(stores)
    assert f"plain{other}" in left
    assert not {f"{evidence.prefix}one", f"{other}one"} & left


async def test_what_could_not_be_dropped_is_said(stores: Stores) -> None:
    gone = Stores(("127.0.0.1", 9), "", ("127.0.0.1", 9), ("127.0.0.1", 9))
    assert "databases" in await drop(gone)


async def _databases(connection: asyncpg.Connection) -> set[str]:
    return {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}


LEDGER = """
CREATE TABLE payments (id uuid PRIMARY KEY, reference text, status text, captured_amount bigint, refunded_amount bigint);
CREATE TABLE ledger_transactions (id uuid PRIMARY KEY, payment_id uuid, kind text);
CREATE TABLE ledger_entries (transaction_id uuid, account text, amount bigint, currency text);
INSERT INTO payments VALUES (gen_random_uuid(), 'failed', 'failed', 0, 0), (gen_random_uuid(), 'unbooked', 'captured', 0, 0)
"""


async def test_a_captured_payment_that_the_ledger_has_never_heard_of_is_an_offender(evidence: StoreEvidence) -> None:
    connection = await evidence.stores.connect(f"{evidence.prefix}payments")
    await connection.execute(LEDGER)
    await connection.close()
    assert (await ledger_balances(evidence)).offenders == ("unbooked",)
