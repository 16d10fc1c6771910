"""Payments as most people would write them first: insert, call the bank, save the result, publish, retry on timeout."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request
from starlette.responses import Response

from labs.week02.infrastructure import ensure_database, patient_producer
from services.kit import ids
from services.kit.errors import Problem
from services.kit.failpoint import failpoint, register
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.kafka import EventHead
from services.kit.settings import ProcessSettings, load

BANK_TIMEOUT = aiohttp.ClientTimeout(total=1)
BANK_PAUSES = (0.1, 0.2)
TOPIC = os.environ.get("LAB_PREFIX", "") + "payments.payment.v1"
TABLE = """CREATE TABLE IF NOT EXISTS payments (
    id text PRIMARY KEY, reference text NOT NULL, source text NOT NULL, amount bigint NOT NULL, currency text NOT NULL,
    status text NOT NULL, charge_id text, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())"""

register("payments.after_bank_answer")


class NewPayment(msgspec.Struct):
    amount: int
    currency: str
    source: str
    reference: str


class Charge(msgspec.Struct):
    id: str
    status: str


class Payments:
    def __init__(self, db: asyncpg.Pool[asyncpg.Record], bank: aiohttp.ClientSession, events: AIOKafkaProducer) -> None:
        self.db, self.bank, self.events = db, bank, events

    async def pay(self, wanted: NewPayment) -> Response:
        payment = ids.encode("pay", ids.uuid7())
        await self.db.execute(
            "INSERT INTO payments (id, reference, source, amount, currency, status) VALUES ($1, $2, $3, $4, $5, 'processing')",
            payment, wanted.reference, wanted.source, wanted.amount, wanted.currency,
        )  # fmt: skip
        try:
            charge = await self.charge(wanted)
        except (aiohttp.ClientError, TimeoutError):
            await self.save(payment, "failed", None)
            raise Problem(502, "bank_unavailable", "The bank does not answer") from None
        await failpoint("payments.after_bank_answer")
        status = "captured" if charge.status == "captured" else "failed"
        await self.save(payment, status, charge.id)
        await self.publish(payment, status, wanted)
        if status == "failed":
            raise Problem(402, "card_declined", "The bank declined the card")
        return json_response(201, {"id": payment, "status": status, **msgspec.structs.asdict(wanted)})

    async def charge(self, wanted: NewPayment) -> Charge:
        body = {"source": wanted.source, "amount": wanted.amount, "currency": wanted.currency, "capture": True}
        for pause in (*BANK_PAUSES, None):
            try:
                async with self.bank.post("/v1/charges", json=body) as answer:
                    answer.raise_for_status()
                    return msgspec.json.decode(await answer.read(), type=Charge)
            except (aiohttp.ClientError, TimeoutError):
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def save(self, payment: str, status: str, charge: str | None) -> None:
        await self.db.execute(
            "UPDATE payments SET status = $2, charge_id = $3, updated_at = now() WHERE id = $1", payment, status, charge
        )

    async def publish(self, payment: str, status: str, wanted: NewPayment) -> None:
        kind, event_id = f"payments.payment.{status}", ids.encode("evt", ids.uuid7())
        head = EventHead(event_id, kind, "naive-payments", payment, datetime.now(UTC))
        body = {"payment_id": payment, "status": status, **msgspec.structs.asdict(wanted)}
        await self.events.send_and_wait(TOPIC, msgspec.json.encode(body), key=payment.encode(), headers=head.headers())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["NAIVE_DATABASE_URL"]
    await ensure_database(url, TABLE)
    headers = {"Authorization": f"Bearer {os.environ['NAIVE_BANK_API_KEY']}"}
    bank = aiohttp.ClientSession(os.environ["NAIVE_BANK_URL"], headers=headers, timeout=BANK_TIMEOUT)
    kafka = patient_producer(os.environ["NAIVE_KAFKA_BOOTSTRAP"], client_id="naive-payments")
    async with asyncpg.create_pool(url) as db, bank, kafka as events:
        app.state.payments = Payments(db, bank, events)
        yield


process = load(ProcessSettings)
app = service_app("week02-day2-naive", process, lifespan=lifespan)


@app.post("/v1/payments")
async def create(request: Request) -> Response:
    payments: Payments = request.app.state.payments
    return await payments.pay(await read_json(request, NewPayment))


@app.get("/v1/payments/{payment}")
async def show(request: Request, payment: str) -> Response:
    row = await request.app.state.payments.db.fetchrow("SELECT * FROM payments WHERE id = $1", payment)
    if row is None:
        raise Problem(404, "not_found", "There is no such payment")
    return json_response(200, dict(row))


if __name__ == "__main__":
    serve(app, process, name="week02-day2-naive")
