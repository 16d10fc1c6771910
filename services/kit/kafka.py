"""Kafka clients with the settings that lose nothing, names with the lab's prefix, CloudEvents in the headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from services.kit import deadline, tracing
from services.patterns.dlq import DeadLetter, Unprocessable

Headers = list[tuple[str, bytes]]
Client = AIOKafkaProducer | AIOKafkaConsumer
C = TypeVar("C", AIOKafkaProducer, AIOKafkaConsumer)

LARGEST_REQUEST_BYTES = 2 << 20
"""A dead letter is larger than what it holds. How much one record may have is for each topic to say."""
START_SECONDS = 10.0
STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class EventHead:
    """CloudEvents 1.0 attributes in binary mode (Kafka protocol binding: `ce_` headers). Consumers dedup by `id`.

    `expires_at` (aware) is for commands only: what has happened does not expire, see patterns.deadline.handling.
    """

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    traceparent: str | None = None
    expires_at: datetime | None = None

    def headers(self) -> Headers:
        """As Kafka headers."""
        pairs: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("ce_subject", self.subject.encode()),
            ("ce_time", self.time.isoformat().encode()),
            ("content-type", b"application/json"),
        ]
        if self.traceparent:
            pairs.append(("traceparent", self.traceparent.encode()))
        if self.expires_at is not None:
            pairs.append(("ce_expirytime", self.expires_at.isoformat().encode()))
        return pairs


class Sends(Protocol):
    """The part of a producer that `send` needs."""

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes | None, headers: Headers) -> object:
        """Return once the broker has acknowledged it."""


async def send(
    producer: Sends, topic: str, value: bytes, *, key: bytes | None, headers: Headers, within: float = 10.0
) -> None:
    """Send and wait for the acknowledgement, `within` seconds or as long as the current deadline lasts.

    Raises TimeoutError, or kit.deadline.DeadlineOver when it was the deadline: then the broker may have it or may yet get it,
    so what is sent is safe to send again (consumers dedup by `ce_id`). Raises aiokafka's errors.
    """
    until = deadline.current()
    try:
        async with asyncio.timeout(deadline.left(within)):
            await producer.send_and_wait(topic, value, key=key, headers=headers)
    except TimeoutError:
        if until is not None and until.over:
            raise deadline.DeadlineOver from None
        raise


class Buffers(Protocol):
    """The part of a producer that `publish` needs."""

    async def send(self, topic: str, *, value: bytes, key: bytes, headers: Headers) -> asyncio.Future[object]:
        """Return once it is buffered; the future is the broker's acknowledgement."""


async def publish(
    producer: Buffers, topic: str, value: bytes, *, key: bytes, head: EventHead
) -> asyncio.Future[object]:
    """Buffer an event; the future ends with the broker's acknowledgement, and with it the event's producer span.

    `head.traceparent` is who caused the event; what travels is the producer span below it. Raises aiokafka's errors.
    """
    attributes = tracing.message("send", topic, id=head.id, key=head.subject)
    span = tracing.begin(f"send {topic}", "producer", parent=head.traceparent, attributes=attributes)
    headers = replace(head, traceparent=span.traceparent).headers()
    try:
        future = await producer.send(topic, value=value, key=key, headers=headers)
    except (Exception, asyncio.CancelledError) as error:
        span.fail(type(error).__name__)
        span.end()
        raise
    future.add_done_callback(partial(_acknowledged, span))
    return future


def _acknowledged(span: tracing.Span, future: asyncio.Future[object]) -> None:
    if future.cancelled():
        span.fail("CancelledError")
    elif (error := future.exception()) is not None:
        span.fail(type(error).__name__)
    span.end()


def header(headers: Sequence[tuple[str, bytes | None]], name: str) -> str | None:
    """The last header of that name as text, None if it is missing, null or not UTF-8."""
    for key, value in reversed(headers):
        if key == name:
            try:
                return None if value is None else value.decode()
            except UnicodeDecodeError:
                return None
    return None


def dead_letter(record: ConsumerRecord[bytes, bytes], why: Unprocessable) -> DeadLetter:
    """A record that is set aside as it came."""
    where = (record.topic, record.partition, record.offset)
    return DeadLetter(record.key, record.value, tuple(record.headers), *where, why.reason, why.detail)


def producer(bootstrap: str, *, client_id: str, linger_ms: int = 5) -> AIOKafkaProducer:
    """acks=all and idempotent: a retry inside the client neither loses nor doubles nor reorders a partition."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        request_timeout_ms=10_000,
        retry_backoff_ms=100,
        metadata_max_age_ms=10_000,
        max_request_size=LARGEST_REQUEST_BYTES,
    )


async def lag(consumer: AIOKafkaConsumer) -> int:
    """How many records of its partitions it has not read, by what the broker last said of their ends."""
    waiting = 0
    partition: TopicPartition
    for partition in consumer.assignment():
        end = consumer.highwater(partition)
        if end is not None:
            waiting += max(end - await consumer.position(partition), 0)
    return waiting


async def start(client: Client, *, within: float = START_SECONDS) -> None:
    """Start it within so many seconds, or hang up and raise KafkaError, OSError, TimeoutError (or CancelledError).

    aiokafka's own `start()` and `async with` leave a client that failed, or was cancelled, with its connections open.
    """
    try:
        async with asyncio.timeout(within):
            await client.start()  # type: ignore[no-untyped-call]  # aiokafka has no types
    except BaseException:
        await stop(client)
        raise


async def stop(client: Client, *, within: float = STOP_SECONDS) -> None:
    """Hang up. What is not sent and acknowledged within so many seconds is given up; nothing is raised for it."""
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(within):
            await client.stop()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def running(client: C) -> AsyncIterator[C]:
    """Started inside the block, hung up after it. Raises what `start` raises."""
    await start(client)
    try:
        yield client
    finally:
        await stop(client)
