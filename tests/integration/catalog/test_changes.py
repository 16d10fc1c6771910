"""Changes of the database on Kafka, through a real Connect with Debezium: keyed by product, in order, none lost, never silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from services.catalog.connect import Connect
from services.catalog.connector import Names
from services.catalog.domain import PREFIX
from services.catalog.store.slots import Slots
from services.contracts import topics
from services.contracts.catalog import LEFT_OUT, READABLE, Change, change_of, product_of
from services.kit import ids, kafka
from tests.integration.catalog.stack import Process, Stack, body, until
from tests.servers import (
    ConnectServer,
    KafkaServer,
    PostgresServer,
    throwaway_connect,
    throwaway_kafka,
    throwaway_postgres,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SLOW = 120.0
"""Debezium takes some seconds to take its snapshot and to open a slot, longer on a busy machine."""
MADE = (("products", "c"), ("products", "r"))
"""A product made before a snapshot is told by it, one made after it is a change."""


@dataclass
class Feed:
    """What has arrived on our topics since the beginning."""

    consumer: AIOKafkaConsumer
    prefix: str
    products: list[tuple[UUID, Change]] = field(default_factory=list)
    references: list[tuple[str, Change]] = field(default_factory=list)
    heartbeats: int = 0
    other: list[ConsumerRecord[bytes, bytes]] = field(default_factory=list)

    async def read(self) -> None:
        """All that is there now."""
        batches = await self.consumer.getmany(timeout_ms=200)
        for records in batches.values():
            for record in records:
                self._take(record)

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        change = change_of(record.value) if "heartbeat" not in record.topic else None
        match record.topic.removeprefix(self.prefix):
            case topics.CATALOG_PRODUCT_CHANGES.name if change is not None:
                self.products.append((product_of(record.key), change))
            case topics.CATALOG_REFERENCE_CHANGES.name if change is not None:
                self.references.append(((record.key or b"").decode(), change))
            case topics.CATALOG_CDC_HEARTBEAT.name:
                self.heartbeats += 1
            case _:
                self.other.append(record)

    def of(self, product: UUID, table: str = "") -> list[tuple[str, str]]:
        """(table, operation) of a product's changes, in order."""
        told = [(change.source.table, change.op) for key, change in self.products if key == product]
        return [one for one in told if table in ("", one[0])]

    async def until(self, product: UUID, *last: tuple[str, str], times: int = 1) -> list[tuple[str, str]]:
        """Read on until one of these changes of the product has come so often."""

        async def come() -> bool:
            await self.read()
            told = self.of(product)
            return any(told.count(one) >= times for one in last)

        try:
            await until(come, within=SLOW)
        except AssertionError:
            raise AssertionError(f"of {product} there are {self.of(product)}, not {last} {times} times") from None
        return self.of(product)


@asynccontextmanager
async def feed(stack: Stack) -> AsyncIterator[Feed]:
    names = [topics.CATALOG_PRODUCT_CHANGES, topics.CATALOG_REFERENCE_CHANGES, topics.CATALOG_CDC_HEARTBEAT]
    consumer = AIOKafkaConsumer(
        *(stack.prefix + topic.name for topic in names),
        bootstrap_servers=stack.bootstrap,
        auto_offset_reset="earliest",
        group_id=None,
    )
    async with kafka.running(consumer):
        yield Feed(consumer, stack.prefix)


@asynccontextmanager
async def prepared(postgres: PostgresServer, kafka: KafkaServer, connect: ConnectServer) -> AsyncIterator[Stack]:
    """Migrated, with topics and an API; the connector is the test's to start. Afterwards nothing is left in Connect."""
    stack = Stack(postgres, kafka.bootstrap, connect=connect)
    try:
        await stack.migrate()
        await stack.create_topics()
        await stack.tree()
        await stack.start("api")
        yield stack
    finally:
        stack.stop()
        await forget(stack)


async def forget(stack: Stack) -> None:
    assert stack.connect is not None
    async with Connect(stack.connect.url) as connect, Slots(stack.url("catalog_cdc")) as slots:
        await connect.delete(Names(stack.prefix).connector)
        await until(lambda: slots.drop(stack.slot), within=SLOW, what="the slot dropped")


@pytest.fixture
async def stack(
    postgres_server: PostgresServer, kafka_server: KafkaServer, connect_server: ConnectServer
) -> AsyncIterator[Stack]:
    async with prepared(postgres_server, kafka_server, connect_server) as made:
        yield made


async def connector(stack: Stack, **environment: str) -> Process:
    """Ready means that the connector reads the log."""
    stack.extra |= environment
    return await stack.start("connector")


def uuid(product: str) -> UUID:
    found = ids.decode(PREFIX, product)
    assert found is not None
    return found


async def test_changes_of_a_product_and_its_variants_arrive_under_its_id_in_order(stack: Stack) -> None:
    before = uuid(await stack.create("before", stock=1))
    await connector(stack)
    variants = [{"sku": "a-1", "price": 100, "stock": 1}, {"sku": "a-2", "price": 100, "stock": 2}]
    text = await stack.create("a", variants=variants, description="d" * 5_000)
    product = uuid(text)
    await stack.request("PUT", f"/v1/products/{text}/price", json={"price": 7})
    await stack.request("PATCH", f"/v1/products/{text}", json={"variants": variants[:1]})
    await stack.request("DELETE", f"/v1/products/{text}")
    async with feed(stack) as got:
        order = await got.until(product, ("variants", "d"), times=2)
        assert got.of(before) == [("products", "r")], "what was there is told by the snapshot, once"
        products = [op for table, op in order if table == "products"]
        assert products == ["c", "u", "u", "d"]
        assert [op for table, op in order if table == "variants"] == ["c", "c", "d", "d"]
        assert got.other == []
        changes = [change for key, change in got.products if key == product]
        positions = [change.source.lsn or 0 for change in changes]
        assert positions == sorted(positions)
        after = [change.after for change in changes if change.after and change.source.table == "products"]
        assert [row["price"] for row in after] == [100, 7, 7]
        assert not any(set(row) & set(LEFT_OUT["products"]) for row in after)
        assert all(change.source.txId for change in changes)


async def test_brands_and_categories_have_a_topic_of_their_own(stack: Stack) -> None:
    await connector(stack)
    await stack.request("PUT", "/v1/brands/1", json={"name": "Acme & Sons"})
    await stack.request("PUT", "/v1/categories/1", json={"names": {"en": "House"}})
    async with feed(stack) as got:

        async def both() -> bool:
            await got.read()
            return {("brands", "u"), ("categories", "u")} <= {(one.source.table, one.op) for _, one in got.references}

        await until(both, within=SLOW, what="brand and category")
        assert {key for key, _ in got.references} == {"1"}
        assert got.other == []


async def test_a_connect_that_is_killed_and_started_again_loses_nothing(
    stack: Stack, connect_server: ConnectServer
) -> None:
    watcher = await connector(stack)
    products = [uuid(await stack.create(f"k-{n}")) for n in range(10)]
    async with feed(stack) as got:
        await got.until(products[-1], ("products", "c"))
        connect_server.life.kill()
        meantime = [uuid(await stack.create(f"m-{n}")) for n in range(10)]
        await until(lambda: _is(stack, watcher, "catalog_cdc_connect_up", 0), within=SLOW, what="Connect seen away")
        connect_server.life.start()
        afterwards = uuid(await stack.create("afterwards"))
        # Killed before it wrote its place down, it begins with a new snapshot.
        await got.until(afterwards, *MADE)
        for product in (*products, *meantime):  # in partitions of their own, so perhaps later than `afterwards`
            await got.until(product, *MADE)
    await until(lambda: _is(stack, watcher, "catalog_cdc_connector_running", 1), within=SLOW, what="running again")
    assert await stack.metric(watcher, "catalog_cdc_slots_lost_total") == 0


async def test_a_dropped_slot_is_told_and_every_product_once_more(stack: Stack) -> None:
    watcher = await connector(stack)
    there = uuid(await stack.create("there"))
    async with feed(stack) as got:
        await got.until(there, ("products", "c"))
        await stack.drop_slot()
        await until(lambda: _is(stack, watcher, "catalog_cdc_slots_lost_total", 1), within=SLOW, what="the loss seen")
        unseen = uuid(await stack.create("unseen"))
        await got.until(there, ("products", "r"))
        await got.until(unseen, *MADE)
        last = uuid(await stack.create("last"))
        await got.until(last, ("products", "c"))
    assert await stack.metric(watcher, "catalog_cdc_resnapshots_total") == 1
    log = watcher.log.read_text()
    assert "the connector is slot_lost" in log
    assert "a new snapshot is ordered" in log


async def test_a_lost_slot_ends_the_watcher_where_that_is_wanted(stack: Stack) -> None:
    watcher = await connector(stack, CATALOG_CDC_LOST_SLOT="exit")
    await stack.drop_slot()
    assert await asyncio.to_thread(watcher.popen.wait, SLOW) == 1
    assert "order a snapshot: python -m services.catalog resnapshot" in watcher.log.read_text()
    from tests.stack import launch

    ordered = launch(["services.catalog", "resnapshot"], stack.environment())
    assert await asyncio.to_thread(ordered.wait, SLOW) == 0
    product = uuid(await stack.create("again"))
    async with feed(stack) as got:
        await got.until(product, *MADE)
    await connector(stack)


async def test_a_slot_dropped_while_nobody_watches_fails_the_task_instead_of_leaving_a_gap(
    stack: Stack, connect_server: ConnectServer
) -> None:
    """Debezium alone: a slot made anew stands behind what was read."""
    watcher = await connector(stack)
    there = uuid(await stack.create("there"))
    async with feed(stack) as got:
        await got.until(there, ("products", "c"))
    await until(lambda: place_is_written(stack), within=SLOW, what="the connector's place written down")
    watcher.kill()
    connect_server.life.kill()
    await stack.drop_slot()
    await stack.create("gap")
    connect_server.life.start()
    watcher = await connector(stack)
    assert await stack.metric(watcher, "catalog_cdc_slots_lost_total") >= 1


async def place_is_written(stack: Stack) -> bool:
    assert stack.connect is not None
    async with Connect(stack.connect.url) as connect:
        return await connect.place(Names(stack.prefix).connector) is not None


async def test_an_idle_database_does_not_pin_the_log_that_others_write(stack: Stack) -> None:
    watcher = await connector(stack)
    await stack.sql("CREATE TABLE elsewhere (filler text)")
    before = (await stack.sql("SELECT pg_current_wal_lsn()::text AS at"))[0]["at"]
    for _ in range(3):
        await stack.sql("INSERT INTO elsewhere SELECT repeat('x', 1000) FROM generate_series(1, 5000)")

    async def confirmed() -> bool:
        rows = await stack.sql(
            "SELECT confirmed_flush_lsn > $1::text::pg_lsn AS past, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) AS lag "
            "FROM pg_replication_slots WHERE slot_name = $2",
            before,
            stack.slot,
        )
        return bool(rows and rows[0]["past"] and rows[0]["lag"] < 1 << 20)

    await until(confirmed, within=SLOW, what="the slot past what others wrote")
    assert await stack.metric(watcher, "catalog_cdc_slot_lag_bytes") < 16 << 20


async def test_a_connector_that_fell_too_far_behind_is_told_and_begins_anew(
    kafka_server: KafkaServer, connect_server: ConnectServer
) -> None:
    """max_slot_wal_keep_size has removed what it needs."""
    with throwaway_postgres(max_slot_wal_keep_size="32MB", max_wal_size="64MB", wal_keep_size="0") as postgres:
        async with prepared(postgres, kafka_server, connect_server) as stack:
            watcher = await connector(stack)
            there = uuid(await stack.create("there"))
            async with feed(stack) as got:
                await got.until(there, ("products", "c"))
                connect_server.life.kill()
                await stack.sql("CREATE TABLE elsewhere (filler text)")
                await until(lambda: _lost(stack), within=SLOW, what="the slot lost")
                connect_server.life.start()
                await got.until(there, ("products", "r"))
            assert await stack.metric(watcher, "catalog_cdc_slots_lost_total") >= 1
            await until(lambda: _is(stack, watcher, "catalog_cdc_slot_lost", 0), within=SLOW, what="well again")


async def test_neither_a_killed_broker_nor_a_killed_database_loses_a_change() -> None:
    with (
        throwaway_postgres() as postgres,
        throwaway_kafka() as kafka,
        throwaway_connect(kafka.bootstrap) as connect,
    ):
        async with prepared(postgres, kafka, connect) as stack:
            watcher = await connector(stack)
            first = uuid(await stack.create("first"))
            async with feed(stack) as got:
                await got.until(first, *MADE)
            kafka.life.kill()
            meantime = [uuid(await stack.create(f"broker-away-{n}")) for n in range(5)]
            kafka.life.start()
            async with feed(stack) as got:
                for product in meantime:
                    await got.until(product, *MADE)
            postgres.life.kill()
            postgres.life.start()
            again = uuid(await until(lambda: _created(stack, "database-back"), within=SLOW, what="the API back"))
            async with feed(stack) as got:
                await got.until(again, *MADE)
            assert await stack.metric(watcher, "catalog_cdc_slots_lost_total") == 0


async def _created(stack: Stack, sku: str) -> str | None:
    """None while the database is away."""
    answer = await stack.request("POST", "/v1/products", json=body(sku), headers={"Idempotency-Key": sku})
    assert answer.status in (201, 503), answer.body
    return str(answer.json["id"]) if answer.status == 201 else None


async def _lost(stack: Stack) -> bool:
    await stack.sql("INSERT INTO elsewhere SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    await stack.sql("SELECT pg_switch_wal()")
    await stack.sql("CHECKPOINT")
    rows = await stack.sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", stack.slot)
    return bool(rows and rows[0]["wal_status"] == "lost")


async def _is(stack: Stack, process: Process, name: str, value: float) -> bool:
    return await stack.metric(process, name) == value


async def test_the_tables_that_others_read_have_the_columns_that_are_promised(stack: Stack) -> None:
    import asyncpg

    reader = await asyncpg.connect(stack.url("catalog_reader"))
    try:
        for table, columns in READABLE.items():
            await reader.fetch(f"SELECT {', '.join(columns)} FROM {table} LIMIT 1")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(f"DELETE FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch("SELECT * FROM api_keys")
    finally:
        await reader.close()
