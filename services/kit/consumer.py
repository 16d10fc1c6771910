"""A topic worked on in batches: offsets are committed after the effect, and what cannot be read is set aside with its reason.

What happens around a batch (a database that is away) parks nothing: the batch waits, the lag grows, and goes back to zero
afterwards. Meanwhile the consumer is paused and goes on polling, so that its group does not take the partitions away. A batch
that is repeated, after a kill or a rebalance, must do no harm: that is the effect's to see to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from services.kit import kafka, tracing
from services.patterns.dlq import DeadLetter

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.5
AWAY_SECONDS = 0.5
POLL_MS = 300
START_SECONDS = 30.0
"""For the broker to answer and the group to be whole: a dead member is waited for, and once more if the broker dies meanwhile."""
PARK_SECONDS = 15.0

Record = ConsumerRecord[bytes, bytes]
Effect = Callable[[Sequence[Record]], Awaitable[list[DeadLetter]]]
"""Of a batch, in one commit or idempotent; returns what cannot be worked on. It may raise what `away` names."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read, and how: `topic`, `dlq` and `group` with the lab's prefix, `client` the process's name; times in seconds.

    `batch`: records at once. `hold`: while a batch takes longer, the broker is shown at this pace that we are alive. `session`:
    the partitions of a killed member wait for so long; brokers allow no less than 6 unless told. A fetch holds
    `partition_bytes` of each partition at most.
    """

    client: str
    bootstrap: str
    topic: str
    dlq: str
    group: str
    batch: int = 200
    hold: float = 1.0
    session: float = 10.0
    partition_bytes: int = 1 << 20


class Observer:
    """Is told what becomes of the records. This one does nothing with it."""

    def waiting(self, records: int) -> None:
        """So many are on the topic and not worked on."""

    def held(self, whether: bool) -> None:
        """The partitions are paused, or no longer."""

    def taken(self, records: int) -> None:
        """So many were worked on and committed."""

    def parked(self, letter: DeadLetter) -> None:
        """One was set aside."""

    async def polled(self) -> None:
        """A batch is here."""

    async def done(self) -> None:
        """Its effect is made and what it set aside is parked; nothing is committed."""

    async def committed(self) -> None:
        """Its offsets are committed."""


@dataclass(slots=True)
class TopicConsumer:
    """`away`: what the effect raises when it is to be tried again."""

    reading: Reading
    effect: Effect
    away: tuple[type[Exception], ...] = ()
    observer: Observer = field(default_factory=Observer)
    broker_ok: bool = False
    draining: bool = False
    _drained: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Consume until cancelled or drained, through any loss of broker or database."""
        while not self.draining:
            try:
                await self._session()
            except (KafkaError, OSError, TimeoutError) as error:
                about = {"topic": self.reading.topic, "error": type(error).__name__}
                log.warning("the broker is away", extra=about)
                await asyncio.sleep(RECONNECT_SECONDS)
        self._drained.set()

    async def drain(self, seconds: float) -> None:
        """Take no more; let the batch under way end for so long. What is not committed then comes again."""
        self.draining = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), seconds)

    async def _session(self) -> None:
        reading = self.reading
        consumer = AIOKafkaConsumer(
            reading.topic,
            bootstrap_servers=reading.bootstrap,
            group_id=reading.group,
            client_id=reading.client,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=round(reading.session * 1000),
            heartbeat_interval_ms=round(reading.session * 1000 / 3),
            metadata_max_age_ms=10_000,
            max_partition_fetch_bytes=reading.partition_bytes,
        )
        producer = kafka.producer(reading.bootstrap, client_id=reading.client)
        try:
            async with asyncio.timeout(START_SECONDS):
                await producer.start()
                await consumer.start()
            self.broker_ok = True
            while not self.draining:
                await self._round(consumer, producer)
        finally:
            self.broker_ok = False
            for each in (consumer, producer):
                await kafka.stop(each)

    async def _round(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=self.reading.batch)
        records = [record for batch in batches.values() for record in batch]
        if records:
            with polling(records, self.reading.topic, self.reading.group):
                await self.observer.polled()
                letters = await self._held(consumer, self._patiently(records))
                await self._park(producer, letters)
                await self.observer.done()
                try:
                    await consumer.commit({each: batch[-1].offset + 1 for each, batch in batches.items()})
                except IllegalStateError:
                    log.info("the partitions are another's by now", extra={"topic": self.reading.topic})
                await self.observer.committed()
            self.observer.taken(len(records) - len(letters))
        self.observer.waiting(await kafka.lag(consumer))

    async def _patiently(self, records: Sequence[Record]) -> list[DeadLetter]:
        while True:
            try:
                return await self.effect(records)
            except self.away as error:
                log.warning("the topic waits", extra={"topic": self.reading.topic, "error": str(error)})
                await asyncio.sleep(AWAY_SECONDS)

    async def _held(self, consumer: AIOKafkaConsumer, work: Awaitable[list[DeadLetter]]) -> list[DeadLetter]:
        """Wait for the work; keep the partitions, however long it takes, by polling while they are paused."""
        task = asyncio.ensure_future(work)
        paused: set[TopicPartition] = set()
        try:
            while not (await asyncio.wait({task}, timeout=self.reading.hold))[0]:
                self.observer.held(True)
                await _poll_paused(consumer, paused)
            return await task
        finally:
            self.observer.held(False)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if still := paused & consumer.assignment():
                consumer.resume(*still)

    async def _park(self, producer: AIOKafkaProducer, letters: Sequence[DeadLetter]) -> None:
        async with asyncio.timeout(PARK_SECONDS):
            for letter in letters:
                await producer.send_and_wait(
                    self.reading.dlq, value=letter.value, key=letter.key, headers=letter.parked_headers()
                )
                self.observer.parked(letter)
                about = {"reason": letter.reason, "offset": letter.offset, "detail": letter.detail}
                log.warning("parked a record", extra=about)


async def _poll_paused(consumer: AIOKafkaConsumer, paused: set[TopicPartition]) -> None:
    """A partition that a rebalance brought meanwhile is not paused yet; what comes of it is put back."""
    assigned = consumer.assignment()
    consumer.pause(*assigned)
    paused |= assigned
    for partition, records in (await consumer.getmany(timeout_ms=0)).items():
        if records:
            consumer.seek(partition, records[0].offset)


def polling(records: Sequence[Record], topic: str, group: str) -> AbstractContextManager[tracing.Span]:
    """From the broker's answer to the committed offsets. A batch has as many causes as records, hence links, no parent."""
    return tracing.span(
        f"poll {topic}",
        "client",
        links=[kafka.header(record.headers, "traceparent") for record in records[: tracing.MOST_LINKS]],
        attributes=tracing.message("receive", topic, count=len(records), group=group),
        new_trace=True,
    )


def processing(record: Record, group: str, links: Sequence[str | None] = ()) -> AbstractContextManager[tracing.Span]:
    """Around the work on one record: a child of who sent it, linked to the poll that it came with and to `links`."""
    return tracing.span(
        f"process {record.topic}",
        "consumer",
        parent=kafka.header(record.headers, "traceparent"),
        links=[tracing.current_traceparent(), *links],
        attributes=tracing.message(
            "process",
            record.topic,
            id=kafka.header(record.headers, "ce_id"),
            group=group,
            partition=str(record.partition),
            offset=record.offset,
        ),
    )
