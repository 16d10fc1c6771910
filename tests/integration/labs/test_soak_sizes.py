"""How large tables and topics are, asked of a real Postgres and a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from labs.engine.cleanup import drop, new_prefix
from labs.engine.clock import RunClock
from labs.engine.evidence import StoreEvidence, Stores
from labs.engine.model import EvidenceError, NotApplicableError
from labs.soak.sizes import Topic, slots_of, tables_of, topics_of
from labs.soak.systems import HOUSE
from services.kit import kafka

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def evidence(stores: Stores) -> AsyncIterator[StoreEvidence]:
    prefix = new_prefix()
    admin = await stores.connect("postgres")
    await admin.execute(f'CREATE DATABASE "{prefix}catalog"')
    await admin.close()
    connection = await stores.connect(f"{prefix}catalog")
    await connection.execute('CREATE TABLE products (id int); CREATE TABLE "odd Name" (id int)')
    await connection.execute("INSERT INTO products SELECT generate_series(1, 12345)")
    await connection.close()
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield StoreEvidence("main", "all", HOUSE, (), (), prefix, stores, RunClock(), session)
    await drop(stores, prefix=prefix)


async def test_rows_are_counted_exactly_and_bytes_are_those_on_disk(evidence: StoreEvidence) -> None:
    found = await tables_of(evidence, ("catalog",))
    assert {name: table.rows for name, table in found.items()} == {"catalog.products": 12345, "catalog.odd Name": 0}
    assert found["catalog.products"].bytes > 400_000


async def test_a_database_that_is_not_there_is_not_passed_over(evidence: StoreEvidence) -> None:
    with pytest.raises(NotApplicableError):
        await tables_of(evidence, ("catalog", "payments"))


async def test_without_a_replication_slot_nothing_is_kept(evidence: StoreEvidence) -> None:
    assert await slots_of(evidence) == {}


async def test_a_topic_tells_what_was_written_and_what_bounds_it(evidence: StoreEvidence, stores: Stores) -> None:
    settings = {
        "a.v1": {"retention.ms": "3600000"},
        "b.v1": {"retention.ms": "-1"},
        "c.v1": {"cleanup.policy": "compact"},
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.bootstrap)
    await admin.start()
    await admin.create_topics(
        [NewTopic(evidence.prefix + name, 3, 1, topic_configs=values) for name, values in settings.items()]
    )
    async with asyncio.timeout(30):
        made = {evidence.prefix + name for name in settings}
        while not made <= set(await admin.list_topics()):  # noqa: ASYNC110  they are told a moment after they were made
            await asyncio.sleep(0.05)
    await admin.close()
    producer = kafka.producer(stores.bootstrap, client_id="sizes")
    await kafka.start(producer)
    for number in range(10):
        await producer.send_and_wait(f"{evidence.prefix}a.v1", b"x", partition=number % 3)
    await kafka.stop(producer)
    found = await topics_of(stores, evidence.prefix)
    assert set(found) == set(settings)
    assert (found["a.v1"].written, found["a.v1"].kept) == (10, 10)
    assert found["a.v1"].bound.startswith("1 h")
    assert "h" not in found["b.v1"].bound
    assert found["c.v1"].bound == "compacted"


async def test_no_topics_of_this_run_are_no_error(evidence: StoreEvidence, stores: Stores) -> None:
    found: dict[str, Topic] = await topics_of(stores, evidence.prefix)
    assert found == {}


async def test_a_broker_that_is_away_cannot_be_measured(evidence: StoreEvidence, stores: Stores) -> None:
    away = Stores(stores.postgres, stores.postgres_password, ("127.0.0.1", 9), stores.prometheus)
    with pytest.raises(EvidenceError, match="the topics could not be measured"):
        await topics_of(away, evidence.prefix)
