"""The feed of day 4: what it acknowledges is on the topic, in the form that payments' own events have."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import aiohttp
import msgspec
import pytest

from services.contracts import topics
from services.contracts.payments import PaymentEvent
from services.kit.kafka import header
from tests.integration.labs.program import running
from tests.records import some
from tests.servers import KafkaServer

pytestmark = pytest.mark.integration

PREFIX = f"feed{os.getpid()}_"


@pytest.fixture(scope="module")
def feed(kafka_server: KafkaServer) -> Iterator[str]:
    asyncio.run(topics.create(kafka_server.bootstrap, PREFIX))
    with running("labs.week02.event_feed", LAB_PREFIX=PREFIX, FEED_KAFKA_BOOTSTRAP=kafka_server.bootstrap) as url:
        yield url


async def post(feed: str, body: bytes) -> tuple[int, str]:
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{feed}/v1/events", data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def test_an_acknowledged_event_is_on_the_topic(feed: str, kafka_server: KafkaServer) -> None:
    status, text = await post(feed, b'{"event_id": "o1-1", "event_type": "lab.group3"}')
    assert (status, msgspec.json.decode(text)["event_id"]) == (202, "o1-1")
    (record,) = await some(kafka_server.bootstrap, PREFIX + "payments.payment.v1")
    assert (header(record.headers, "ce_id"), header(record.headers, "ce_type")) == ("o1-1", "lab.group3")
    assert record.value is not None
    event = msgspec.json.decode(record.value, type=PaymentEvent)
    assert (event.merchant_id, event.reference) == ("mer_demo", "o1-1")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 400),
        (b"{}", 422),
        (b'{"event_id": 1, "event_type": "x"}', 422),
        (b'{"event_id": "a", "event_type": "x", "more": 1}', 422),
        (b"x" * 100_000, 413),
    ],
)
async def test_bad_input_is_a_clear_problem(feed: str, body: bytes, status: int) -> None:
    answered, text = await post(feed, body)
    assert answered == status
    assert msgspec.json.decode(text)["status"] == status
