"""What the load sends over Kafka: `POST /v1/events` becomes a record on the topic of payments, answered once it is there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
from aiokafka.errors import KafkaError
from fastapi import FastAPI, Request
from starlette.responses import Response

from labs.week02.infrastructure import patient_producer
from services.contracts.payments import PaymentEvent
from services.contracts.topics import PAYMENT_EVENTS
from services.kit import kafka
from services.kit.errors import Problem
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.settings import ProcessSettings, load

ACKNOWLEDGED_WITHIN_SECONDS = 2.0
MERCHANT = "mer_demo"


class Event(msgspec.Struct, forbid_unknown_fields=True):
    event_id: str
    event_type: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with patient_producer(os.environ["FEED_KAFKA_BOOTSTRAP"], client_id="week02-day4-feed") as producer:
        app.state.producer = producer
        yield


process = load(ProcessSettings)
app = service_app("week02-day4-feed", process, lifespan=lifespan)


@app.post("/v1/events")
async def publish(request: Request) -> Response:
    event = await read_json(request, Event)
    payment = f"pay_{event.event_id}"
    body = PaymentEvent(payment, MERCHANT, event.event_id, "tok_feed", "captured", 100, "EUR", 100, 0, 1)
    head = kafka.EventHead(event.event_id, event.event_type, "week02-day4-feed", payment, datetime.now(UTC))
    topic = process.lab_prefix + PAYMENT_EVENTS.name
    try:
        await kafka.send(
            request.app.state.producer, topic, msgspec.json.encode(body),
            key=payment.encode(), headers=head.headers(), within=ACKNOWLEDGED_WITHIN_SECONDS,
        )  # fmt: skip
    except (KafkaError, TimeoutError):
        raise Problem(504, "outcome_unknown", "The broker has not said whether it has the event") from None
    return json_response(202, {"id": event.event_id, "event_id": event.event_id})


if __name__ == "__main__":
    serve(app, process, name="week02-day4-feed")
