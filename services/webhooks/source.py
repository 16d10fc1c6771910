"""Payments' events from Kafka become messages of the merchants' applications. Offsets are committed after the effect.

What cannot become a message is parked in `webhooks.source.dlq` with its reason. A database or broker that is away parks
nothing: the batch waits, the lag grows, and goes back to zero afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import msgspec
from fastapi import FastAPI

from services.contracts.payments import PaymentEvent
from services.contracts.topics import PAYMENT_EVENTS, WEBHOOKS_SOURCE_DLQ
from services.kit import kafka, postgres, tracing
from services.kit.clock import Clock, SystemClock
from services.kit.consumer import Observer, Reading, Record, TopicConsumer, processing
from services.kit.current import Current
from services.kit.errors import Problem
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, service_app
from services.kit.kafka import dead_letter
from services.kit.settings import ProcessSettings
from services.patterns.dlq import DeadLetter, Unprocessable
from services.webhooks import failpoints, intake, metrics
from services.webhooks.domain import DeadReason
from services.webhooks.intake import Backlog, Schemas
from services.webhooks.schemas import EventId, TypeName
from services.webhooks.settings import WebhooksSettings
from services.webhooks.store import EndpointStore, MessageStore, NewMessage, StoreUnavailable

GROUP = "webhooks.source"
_DECODER = msgspec.json.Decoder(PaymentEvent)


class _Head(msgspec.Struct, frozen=True):
    """The forms that an event's id and type must have."""

    event_id: EventId
    event_type: TypeName


@dataclass(frozen=True, slots=True)
class Event:
    """A record that can be read."""

    record: Record
    event_id: str
    event_type: str
    merchant: str
    payload: bytes
    traceparent: str | None


def read(record: Record) -> Event:
    """Raises Unprocessable."""
    headers = record.headers
    identity, kind = kafka.header(headers, "ce_id"), kafka.header(headers, "ce_type")
    if identity is None or kind is None:
        raise Unprocessable("no_cloudevent", "ce_id and ce_type must be there.")
    try:
        head = msgspec.convert({"event_id": identity, "event_type": kind}, _Head)
    except msgspec.ValidationError:
        raise Unprocessable("malformed_head", "ce_id or ce_type has not the form of an id or a type.") from None
    if record.value is None:
        raise Unprocessable("no_body", "The record has no body.")
    try:
        payment = _DECODER.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unprocessable("malformed_body", "The body is not a payment event.") from None
    if "\x00" in payment.merchant_id:
        raise Unprocessable("malformed_body", "No merchant's id holds a NUL, which no database can look for.")
    return Event(
        record,
        head.event_id,
        head.event_type,
        payment.merchant_id,
        bytes(record.value),
        tracing.valid(kafka.header(headers, "traceparent")),
    )


@dataclass(slots=True)
class Source:
    """What the consumer does with its batches."""

    group: str
    endpoints: EndpointStore
    messages: MessageStore
    schemas: Schemas
    backlog: Backlog

    async def take(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Messages of all records that can be read, in one commit; what cannot. Raises StoreUnavailable."""
        parked: list[DeadLetter] = []
        events: list[Event] = []
        for record in records:
            try:
                events.append(read(record))
            except Unprocessable as why:
                parked.append(dead_letter(record, why))
        owners = await self.endpoints.applications_of(sorted({event.merchant for event in events}))
        pairs: list[tuple[Event, NewMessage]] = []
        for event in events:
            applications = owners.get(event.merchant, [])
            if not applications:
                metrics.SOURCE_RECORDS.labels("unwanted").inc()
            for application in applications:
                try:
                    pairs.append((event, await self._message(event, application)))
                except Unprocessable as why:
                    parked.append(dead_letter(event.record, why))
        return parked + await self._store(pairs)

    async def _message(self, event: Event, application: str) -> NewMessage:
        with processing(event.record, self.group):
            try:
                made = await intake.prepare(
                    self.schemas,
                    application,
                    event.event_id,
                    event.event_type,
                    event.payload,
                    tracing.current_traceparent(),
                )
            except Problem as problem:
                raise Unprocessable(problem.code, problem.title + ".") from None
        if self.backlog.full(application):
            # Nobody can be told 429 here: it is kept, and is dead from the start; a replay sends it.
            return replace(made, dead_reason=DeadReason.BACKLOG_FULL.value)
        return made

    async def _store(self, pairs: Sequence[tuple[Event, NewMessage]]) -> list[DeadLetter]:
        parked: list[DeadLetter] = []
        stored = await self.messages.accept([message for _, message in pairs]) if pairs else []
        for (event, message), found in zip(pairs, stored, strict=True):
            if found.fingerprint != message.fingerprint:
                why = Unprocessable("event_id_reused", "Another event with this ce_id is stored.")
                parked.append(dead_letter(event.record, why))
                continue
            self.backlog.took(message.application_id)
            metrics.MESSAGES.labels("kafka", "new" if found.new else "known").inc()
            metrics.SOURCE_RECORDS.labels("taken" if found.new else "known").inc()
        return parked


class SourceObserver(Observer):
    """Keeps the metrics, and may be made to die between two steps."""

    def waiting(self, records: int) -> None:
        metrics.SOURCE_LAG.set(records)

    def parked(self, letter: DeadLetter) -> None:
        metrics.SOURCE_RECORDS.labels("parked").inc()

    async def polled(self) -> None:
        await failpoint(failpoints.SOURCE_BEFORE_EFFECT)

    async def done(self) -> None:
        await failpoint(failpoints.SOURCE_AFTER_EFFECT)

    async def committed(self) -> None:
        await failpoint(failpoints.SOURCE_AFTER_COMMIT)


def create_worker(
    process: ProcessSettings, settings: WebhooksSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The source process."""
    failpoints.register(*failpoints.SOURCE)
    tasks, time = Tasks(), clock or SystemClock()
    stored, feed = Current[EndpointStore](), Current[TopicConsumer]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with await postgres.create_pool(
            settings.database_url.get_secret_value(), name="webhooks-source", maximum=settings.database_pool
        ) as pool:
            endpoints = EndpointStore(pool)
            messages = MessageStore(pool, first_delay_seconds=settings.retries.delays[0])
            backlog = Backlog(settings.max_backlog)
            reading = Reading(
                "webhooks-source",
                settings.kafka_bootstrap,
                process.lab_prefix + PAYMENT_EVENTS.name,
                process.lab_prefix + WEBHOOKS_SOURCE_DLQ.name,
                process.lab_prefix + GROUP,
                batch=settings.source_batch,
                session=settings.source_session_seconds,
            )
            effect = Source(reading.group, endpoints, messages, Schemas(endpoints, time), backlog).take
            source = TopicConsumer(reading, effect, away=(StoreUnavailable,), observer=SourceObserver())
            with stored.holding(endpoints), feed.holding(source):
                tasks.start("source", source.run())
                tasks.start("backlog", intake.keep_counting(messages, backlog, time))
                yield
                await tasks.stop()

    checks = {
        "database": stored.ready(lambda it: it.answers()),
        "broker": feed.ready(lambda it: it.broker_ok),
    }
    return service_app("webhooks-source", process, lifespan=lifespan, checks=checks), tasks
