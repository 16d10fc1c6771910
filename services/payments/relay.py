"""Publishes the outbox to Kafka, in order per payment, at least once. Its consumers dedup by `ce_id`.

One relay is active, the one that holds the advisory lock; others stand by. The active one reads, publishes and deletes over
the very connection that holds the lock: if the lock is lost, so are its reads and deletes. What is unpublished is found by
reading the table, neither by a watermark nor by transaction horizons (see patterns/outbox.py). It polls: NOTIFY takes a
lock over all databases at each commit, and that would be paid by the hot path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI

from services.contracts.topics import PAYMENT_EVENTS
from services.kit import ids, kafka, postgres
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.patterns.outbox import first_of_each
from services.payments import failpoints, metrics
from services.payments.schemas import PREFIX
from services.payments.settings import PaymentsSettings
from services.payments.store import Outbox, OutboxRow, StoreUnavailable, lag, open_outbox

log = logging.getLogger(__name__)

STANDBY_SECONDS = 0.3
RECONNECT_SECONDS = 0.3
ACKNOWLEDGE_SECONDS = 15.0
"""After this long without the broker's answer the producer is replaced."""
GAUGE_SECONDS = 1.0
SOURCE = "/payments"


@dataclass(slots=True)
class Relay:
    """The loop and what its health is judged by."""

    settings: PaymentsSettings
    topic: str
    database_ok: bool = False
    broker_ok: bool = False
    active: bool = False
    _producer: AIOKafkaProducer | None = field(default=None, repr=False)

    async def run(self) -> None:
        """Publish until cancelled, through any loss of database or broker."""
        try:
            while True:
                try:
                    async with open_outbox(self.settings.database_url.get_secret_value()) as outbox:
                        await self._work(outbox)
                except postgres.DATABASE_ERRORS as error:
                    log.warning("the database is away", extra={"error": type(error).__name__})
                finally:
                    self.database_ok = self.active = False
                    metrics.RELAY_ACTIVE.set(0)
                await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            await self._drop_producer()

    async def _work(self, outbox: Outbox) -> None:
        while not await outbox.lock():
            self.database_ok = True
            await self._producer_or_none()
            await asyncio.sleep(STANDBY_SECONDS)
        self.database_ok = self.active = True
        metrics.RELAY_ACTIVE.set(1)
        while True:
            if await self.publish_once(outbox) == 0:
                await asyncio.sleep(self.settings.relay_poll_seconds)

    async def publish_once(self, outbox: Outbox) -> int:
        """Publish one batch and delete what the broker acknowledged; return how many. 0: nothing to do, or no broker."""
        producer = await self._producer_or_none()
        if producer is None:
            await outbox.check()
            return 0
        rows = await outbox.take(self.settings.relay_batch)
        if not rows:
            return 0
        batch = first_of_each(rows)
        await failpoint(failpoints.RELAY_BEFORE_PUBLISH)
        acknowledged = await self._publish(producer, batch)
        await failpoint(failpoints.RELAY_AFTER_PUBLISH)
        await outbox.delete(acknowledged)
        await failpoint(failpoints.RELAY_AFTER_DELETE)
        for row in acknowledged:
            metrics.PUBLISHED.labels(row.type).inc()
        if len(acknowledged) < len(batch):
            metrics.PUBLISH_FAILURES.inc()
            await self._drop_producer()
        return len(acknowledged)

    async def _publish(self, producer: AIOKafkaProducer, batch: Sequence[OutboxRow]) -> list[OutboxRow]:
        sent: list[asyncio.Future[object]] = []
        try:
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                for row in batch:
                    sent.append(await self._send(producer, row))  # noqa: PERF401
                await asyncio.wait(sent)
        except (KafkaError, TimeoutError) as error:
            log.warning("the broker did not take a batch", extra={"error": type(error).__name__})
        # Each future is asked for its error, also those beyond the first that failed, so that none goes unretrieved.
        outcomes = [future.done() and not future.cancelled() and future.exception() is None for future in sent]
        return [row for row, taken in zip(batch, outcomes, strict=False) if taken]

    async def _send(self, producer: AIOKafkaProducer, row: OutboxRow) -> asyncio.Future[object]:
        key = ids.encode(PREFIX, row.payment_id)
        event = ids.encode("evt", row.event_id)
        head = kafka.EventHead(event, row.type, SOURCE, key, row.created_at, row.traceparent)
        return await kafka.publish(producer, self.topic, row.body, key=key.encode(), head=head)

    async def _producer_or_none(self) -> AIOKafkaProducer | None:
        if self._producer is not None:
            return self._producer
        producer = kafka.producer(self.settings.kafka_bootstrap, client_id="payments-relay")
        try:
            async with asyncio.timeout(10):
                await producer.start()
                await producer.partitions_for(self.topic)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("the broker is away", extra={"error": type(error).__name__})
            return None
        else:
            self._producer, self.broker_ok = producer, True
            return producer
        finally:
            if self._producer is not producer:
                await kafka.stop(producer)

    async def _drop_producer(self) -> None:
        producer, self._producer, self.broker_ok = self._producer, None, False
        if producer is not None:
            await kafka.stop(producer)


async def measure(settings: PaymentsSettings) -> None:
    """Keep the gauges of the outbox, over a connection of its own, so that they move while the relay waits."""
    async with await postgres.create_pool(
        settings.database_url.get_secret_value(), name="payments-relay-gauges", minimum=1, maximum=1
    ) as pool:
        while True:
            with suppress(StoreUnavailable):
                rows, oldest = await lag(pool)
                metrics.OUTBOX_ROWS.set(rows)
                metrics.OUTBOX_OLDEST.set(oldest)
            await asyncio.sleep(GAUGE_SECONDS)


def create_worker(process: ProcessSettings, settings: PaymentsSettings) -> tuple[FastAPI, Tasks]:
    """The relay process."""
    failpoints.register(*failpoints.RELAY)
    relay, tasks = Relay(settings, process.lab_prefix + PAYMENT_EVENTS.name), Tasks()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks.start("relay", relay.run())
        tasks.start("gauges", measure(settings))
        yield
        await tasks.stop()

    async def database() -> bool:
        return relay.database_ok

    async def broker() -> bool:
        return relay.broker_ok

    checks = {"database": database, "broker": broker}
    return service_app("payments-relay", process, lifespan=lifespan, checks=checks), tasks
