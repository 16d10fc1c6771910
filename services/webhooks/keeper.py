"""Housekeeping: replays at their rate, operational events to Kafka, messages forgotten after their retention.

Any number of keepers may run: rows are locked while one works on them, and every step is one commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI

from services.contracts.topics import WEBHOOKS_OPERATIONAL
from services.kit import ids, kafka, postgres
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.patterns.token_bucket import TokenBucket
from services.webhooks import failpoints, metrics
from services.webhooks.schemas import first_id
from services.webhooks.settings import WebhooksSettings
from services.webhooks.store import MessageStore, ReplayStore, StoreUnavailable
from services.webhooks.store.outbox import OutboxRow, OutboxStore

log = logging.getLogger(__name__)

REPLAY_SECONDS = 0.2
REPLAYS_AT_ONCE = 50
REPLAY_BATCH = 500
RELAY_SECONDS = 0.5
RELAY_BATCH = 200
ACKNOWLEDGE_SECONDS = 10.0
SWEEP_BATCH = 500
AWAY_SECONDS = 0.5
SOURCE = "/webhooks"


class Replayer:
    """Moves deliveries back into the queue, no faster than each replay allows."""

    def __init__(self, store: ReplayStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._buckets: dict[UUID, TokenBucket] = {}

    async def round(self) -> int:
        """One step of each running replay; return how many deliveries were scheduled. Raises StoreUnavailable."""
        running = await self._store.running(REPLAYS_AT_ONCE)
        metrics.REPLAYS_RUNNING.set(len(running))
        self._buckets = {replay: self._bucket(replay, rate) for replay, rate in running.items()}
        total = 0
        for replay, bucket in self._buckets.items():
            allowed = bucket.take(min(bucket.available, REPLAY_BATCH))
            if not allowed:
                continue
            await failpoint(failpoints.REPLAY_BEFORE_COMMIT)
            moved = await self._store.step(replay, allowed)
            await failpoint(failpoints.REPLAY_AFTER_COMMIT)
            bucket.give_back(allowed - (moved or 0))
            total += moved or 0
        metrics.REPLAYED.inc(total)
        return total

    def _bucket(self, replay: UUID, rate: int) -> TokenBucket:
        # A burst of half a second: rounds are closer together than that.
        return self._buckets.get(replay) or TokenBucket(rate, max(rate / 2, 1), self._clock.monotonic)


class Relay:
    """Publishes operational events, at least once. Consumers dedup by `ce_id`."""

    def __init__(self, store: OutboxStore, bootstrap: str, topic: str) -> None:
        self._store = store
        self._bootstrap = bootstrap
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    async def round(self) -> int:
        """Publish one batch; return how many. Without rows no broker is asked. Raises StoreUnavailable."""
        waiting = await self._store.waiting()
        metrics.OUTBOX_ROWS.set(waiting)
        if not waiting or await self._ready() is None:
            return 0
        return await self._store.publish(RELAY_BATCH, self._publish)

    async def close(self) -> None:
        """Let the broker go."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await kafka.stop(producer)

    async def _ready(self) -> AIOKafkaProducer | None:
        if self._producer is None:
            producer = kafka.producer(self._bootstrap, client_id="webhooks-keeper")
            try:
                await kafka.start(producer)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("the broker is away", extra={"error": type(error).__name__})
                return None
            self._producer = producer
        return self._producer

    async def _publish(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        producer = self._producer
        assert producer is not None
        await failpoint(failpoints.RELAY_BEFORE_PUBLISH)
        sent: list[asyncio.Future[object]] = []
        try:
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                for row in rows:
                    sent.append(await self._send(producer, row))  # noqa: PERF401
                await asyncio.wait(sent)
        except (KafkaError, TimeoutError) as error:
            log.warning("the broker did not take a batch", extra={"error": type(error).__name__})
        # Each future is asked for its error, also those beyond the first that failed, so that none goes unretrieved.
        outcomes = [future.done() and not future.cancelled() and future.exception() is None for future in sent]
        await failpoint(failpoints.RELAY_AFTER_PUBLISH)
        taken = [row for row, done in zip(rows, outcomes, strict=False) if done]
        if len(taken) < len(rows):
            await self.close()
        for row in taken:
            metrics.PUBLISHED.labels(row.type).inc()
        return taken

    async def _send(self, producer: AIOKafkaProducer, row: OutboxRow) -> asyncio.Future[object]:
        owner, event = row.application_id, ids.encode("evt", row.event_id)
        head = kafka.EventHead(event, row.type, SOURCE, owner, row.created_at, row.traceparent)
        return await kafka.publish(producer, self._topic, row.body, key=owner.encode(), head=head)


class Sweeper:
    """Forgets messages, and with them their event ids, after the retention."""

    def __init__(self, messages: MessageStore, replays: ReplayStore, clock: Clock, days: float) -> None:
        self._messages = messages
        self._replays = replays
        self._clock = clock
        self._kept = timedelta(days=days)

    async def round(self) -> int:
        """Delete all that is due, batch by batch; return how many messages. Raises StoreUnavailable."""
        before = self._clock.now() - self._kept
        await self._replays.forget(before)
        total = 0
        while gone := await self._messages.forget(first_id(before), SWEEP_BATCH):
            await failpoint(failpoints.SWEEP_AFTER_COMMIT)
            metrics.FORGOTTEN.inc(gone)
            total += gone
            if gone < SWEEP_BATCH:
                break
        if total:
            log.info("forgot messages after their retention", extra={"messages": total})
        return total


async def _repeat(task: Callable[[], Awaitable[int]], pause: float) -> None:
    """Round after round; a database that is away is waited for."""
    while True:
        try:
            await task()
        except StoreUnavailable as error:
            log.warning("the database is away", extra={"error": str(error)})
            await asyncio.sleep(AWAY_SECONDS)
        await asyncio.sleep(pause)


def create_worker(
    process: ProcessSettings, settings: WebhooksSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The keeper process. Ready without a broker: replays and sweeps need none."""
    failpoints.register(*failpoints.KEEPER)
    tasks, time = Tasks(), clock or SystemClock()
    current = Current[OutboxStore]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with await postgres.create_pool(
            settings.database_url.get_secret_value(), name="webhooks-keeper", maximum=settings.database_pool
        ) as pool:
            replays, outbox = ReplayStore(pool), OutboxStore(pool)
            relay = Relay(outbox, settings.kafka_bootstrap, process.lab_prefix + WEBHOOKS_OPERATIONAL.name)
            sweeper = Sweeper(MessageStore(pool), replays, time, settings.retention_days)
            with current.holding(outbox):
                tasks.start("replays", _repeat(Replayer(replays, time).round, REPLAY_SECONDS))
                tasks.start("relay", _repeat(relay.round, RELAY_SECONDS))
                tasks.start("sweeper", _repeat(sweeper.round, settings.sweep_seconds))
                yield
                await tasks.stop()
                await relay.close()

    async def database(outbox: OutboxStore) -> bool:
        try:
            await outbox.waiting()
        except StoreUnavailable:
            return False
        return True

    checks = {"database": current.ready(database)}
    return service_app("webhooks-keeper", process, lifespan=lifespan, checks=checks), tasks
