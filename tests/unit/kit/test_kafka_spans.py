"""A published record carries the producer span, which lasts until the broker has acknowledged it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from aiokafka.errors import KafkaTimeoutError
from opentelemetry.trace import SpanKind

from services.kit import kafka
from tests.unit.kit.recorded_spans import recorded

CAUSE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEAD = kafka.EventHead("evt_1", "paid", "/payments", "pay_1", datetime(2026, 1, 1, tzinfo=UTC), CAUSE)


@dataclass
class FakeProducer:
    """Buffers; the test acknowledges."""

    refuses: Exception | None = None
    headers: kafka.Headers = field(default_factory=list)

    async def send(self, topic: str, *, value: bytes, key: bytes, headers: kafka.Headers) -> asyncio.Future[object]:
        del topic, value, key
        if self.refuses is not None:
            raise self.refuses
        self.headers = headers
        self.future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        return self.future


async def test_the_span_ends_with_the_acknowledgement_and_is_what_travels() -> None:
    producer = FakeProducer()
    with recorded() as exporter:
        future = await kafka.publish(producer, "payments.payment.v1", b"{}", key=b"pay_1", head=HEAD)
        assert exporter.get_finished_spans() == ()
        producer.future.set_result(None)
        await future
        await asyncio.sleep(0)
        (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("send payments.payment.v1", SpanKind.PRODUCER)
    assert span.parent is not None
    assert span.context is not None
    assert span.parent.span_id == int(CAUSE[36:52], 16)
    assert kafka.header(producer.headers, "traceparent") == f"{CAUSE[:36]}{span.context.span_id:016x}-01"
    assert span.attributes is not None
    assert span.attributes["messaging.message.id"] == "evt_1"
    assert "error.type" not in span.attributes


@pytest.mark.parametrize("how", ["refused", "failed", "cancelled"])
async def test_a_record_that_is_not_taken_is_a_failed_span(how: str) -> None:
    producer = FakeProducer(refuses=KafkaTimeoutError() if how == "refused" else None)
    with recorded() as exporter:
        if how == "refused":
            with pytest.raises(KafkaTimeoutError):
                await kafka.publish(producer, "topic", b"{}", key=b"", head=HEAD)
        else:
            future = await kafka.publish(producer, "topic", b"{}", key=b"", head=HEAD)
            if how == "failed":
                future.set_exception(KafkaTimeoutError())
            else:
                future.cancel()
            await asyncio.wait([future])
            await asyncio.sleep(0)
        (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == ("CancelledError" if how == "cancelled" else "KafkaTimeoutError")


async def test_switched_off_the_cause_itself_travels() -> None:
    producer = FakeProducer()
    await kafka.publish(producer, "topic", b"{}", key=b"", head=HEAD)
    assert kafka.header(producer.headers, "traceparent") == CAUSE
