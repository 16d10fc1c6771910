"""Payments' events from Kafka become messages; garbage is parked with its reason; the lag goes back to zero."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import pytest

from services.contracts import topics
from services.contracts.payments import PaymentEvent
from services.kit import kafka
from services.kit.kafka import Headers
from tests.integration.webhooks.stack import PATIENT, Receivers, Stack, until
from tests.records import everything

pytestmark = pytest.mark.integration

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Event:
    id: str
    headers: Headers
    value: bytes | None


def captured(event_id: str, merchant: str = "mer_demo", **changes: object) -> Event:
    body = PaymentEvent("pay_1", merchant, "order-1", "tok_1", "captured", 1000, "EUR", 1000, 0, 1)
    head = kafka.EventHead(
        event_id, "payments.payment.captured", "/payments", "pay_1", datetime.now(UTC), traceparent=TRACE
    )
    return Event(event_id, head.headers(), msgspec.json.encode(msgspec.structs.replace(body, **changes)))


async def send(stack: Stack, events: Sequence[Event]) -> None:
    topic = stack.prefix + topics.PAYMENT_EVENTS.name
    async with kafka.running(kafka.producer(stack.bootstrap, client_id="test")) as producer:
        for event in events:
            await producer.send_and_wait(topic, value=event.value, key=b"pay_1", headers=event.headers)


async def parked(stack: Stack) -> list[tuple[dict[str, str], bytes | None]]:
    """Headers and value of everything in the dead letter topic."""
    return [
        ({name: raw.decode("utf-8", "replace") for name, raw in each.headers}, each.value)
        for each in await everything(stack.bootstrap, stack.prefix + topics.WEBHOOKS_SOURCE_DLQ.name)
    ]


async def test_an_event_reaches_the_endpoints_of_its_merchants_application_in_the_same_trace(
    kafka_stack: Stack, receivers: Receivers
) -> None:
    stack = kafka_stack
    stack.extra |= PATIENT
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"), stack.start("source"))
    await stack.endpoint(receivers.url("/mine"), event_types=["payments.payment.captured"])
    await stack.endpoint(receivers.url("/refunds"), event_types=["payments.payment.refunded"])
    other = {"Authorization": "Bearer lab_other_application_key"}
    await stack.endpoint(receivers.url("/other"), application=other)

    await send(stack, [captured("evt-1"), captured("evt-2", "mer_unknown"), captured("evt-1")])

    async def delivered() -> bool:
        return await stack.states() == {"delivered": 1}

    await until(delivered, what="delivery")
    (request,) = receivers.received
    assert (request.path, request.json["id"], request.json["type"]) == ("/mine", "evt-1", "payments.payment.captured")
    assert request.json["data"]["payment_id"] == "pay_1"
    assert request.headers["traceparent"][3:35] == TRACE[3:35]
    assert await parked(stack) == []


def without(event: Event, name: str) -> Event:
    return Event(event.id, [each for each in event.headers if each[0] != name], event.value)


def with_header(event: Event, name: str, value: bytes) -> Event:
    return Event(event.id, [*without(event, name).headers, (name, value)], event.value)


GARBAGE = [
    (without(captured("evt-a"), "ce_id"), "no_cloudevent"),
    (without(captured("evt-b"), "ce_type"), "no_cloudevent"),
    (with_header(captured("evt-c"), "ce_id", b"\xff\xfe"), "no_cloudevent"),
    (with_header(captured("evt-d"), "ce_id", b'a"b'), "malformed_head"),
    (with_header(captured("evt-e"), "ce_id", b"x" * 300), "malformed_head"),
    (with_header(captured("evt-f"), "ce_type", b"no type"), "malformed_head"),
    (with_header(captured("evt-g"), "ce_type", b"webhooks.endpoint.disabled"), "reserved_event_type"),
    (Event("evt-h", captured("evt-h").headers, None), "no_body"),
    (Event("evt-i", captured("evt-i").headers, b""), "malformed_body"),
    (Event("evt-j", captured("evt-j").headers, b"\x00\xff"), "malformed_body"),
    (Event("evt-k", captured("evt-k").headers, b"[]"), "malformed_body"),
    (Event("evt-l", captured("evt-l").headers, b"[" * 10_000), "malformed_body"),
    (captured("evt-m", reference="x" * 300_000), "payload_too_large"),
    (captured("evt-first", amount=5), "event_id_reused"),
]


async def test_what_cannot_become_a_message_is_parked_with_its_reason_and_holds_up_nothing(
    kafka_stack: Stack, receivers: Receivers
) -> None:
    stack = kafka_stack
    stack.extra["WEBHOOKS_SOURCE_SESSION_SECONDS"] = "10"  # a source that is dropped for a stall parks a batch again
    _, _, source = await asyncio.gather(stack.start("api"), stack.start("dispatcher"), stack.start("source"))
    await stack.endpoint(receivers.url("/a"))

    await send(stack, [captured("evt-first"), *(event for event, _ in GARBAGE), captured("evt-last")])

    async def taken() -> bool:
        return await stack.states() == {"delivered": 2}

    await until(taken, what="the two good ones")

    async def all_set_aside() -> bool:
        return len(await parked(stack)) >= len(GARBAGE)

    await until(all_set_aside, what="the others set aside")
    letters = await parked(stack)
    assert sorted(heads["dlq_reason"] for heads, _ in letters) == sorted(reason for _, reason in GARBAGE)
    assert {value for _, value in letters} == {event.value for event, _ in GARBAGE}
    assert {heads["dlq_topic"] for heads, _ in letters} == {stack.prefix + topics.PAYMENT_EVENTS.name}

    async def caught_up() -> bool:
        return await stack.metric(source, "webhooks_source_lag_records") == 0

    await until(caught_up, what="a lag of zero")


async def test_a_payload_that_breaks_the_schema_of_its_type_is_parked(kafka_stack: Stack, receivers: Receivers) -> None:
    stack = kafka_stack
    await stack.start("api")
    schema = {"properties": {"amount": {"minimum": 2000}}}
    made = await stack.request("PUT", "/v1/event-types/payments.payment.captured", json={"schema": schema})
    assert made.status == 200
    await stack.start("source")

    await send(stack, [captured("evt-1")])

    async def there() -> bool:
        return bool(await parked(stack))

    await until(there, what="a dead letter")
    ((heads, _),) = await parked(stack)
    assert heads["dlq_reason"] == "payload_does_not_fit"
    assert await stack.sql("SELECT 1 FROM messages") == []


async def test_beyond_the_backlog_events_are_kept_and_dead_from_the_start(
    kafka_stack: Stack, receivers: Receivers
) -> None:
    stack = kafka_stack
    stack.extra["WEBHOOKS_MAX_BACKLOG"] = "1"
    await stack.start("api")
    await stack.endpoint(receivers.url("/a"))
    await stack.start("source")
    await send(stack, [captured("evt-1")])

    async def first() -> bool:
        return await stack.states() == {"scheduled": 1}

    await until(first, what="the first")
    await send(stack, [captured("evt-2")])

    async def second() -> bool:
        rows = await stack.sql("SELECT dead_reason FROM deliveries WHERE state = 'dead'")
        return [row["dead_reason"] for row in rows] == ["backlog_full"]

    await until(second, what="the second")
