"""Your turn: payments that charge once. `make lab week=2 day=2 variant=yours` judges it as it judged the other two.

The shell is here (HTTP, database, bank, broker); what is missing is `pay`. You may add tables to TABLES and loops to
`background`. The bank honours a `reference` in the body of POST /v1/charges: the same reference is charged once, and
GET /v1/operations/<reference> says what became of it (a 404 there is not certain: the charge may still be on its way).

The checker reads your tables `payments` and, if you have them, `operations`, `ledger_transactions`, `ledger_entries` and
`outbox` (columns as in services/payments); what you do not have is not judged. It reads the topic, too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request
from starlette.responses import Response

from labs.week02.infrastructure import ensure_database, patient_producer
from services.kit.errors import Problem
from services.kit.failpoint import register
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.settings import ProcessSettings, load

TOPIC = os.environ.get("LAB_PREFIX", "") + "payments.payment.v1"
TABLES = """
CREATE TABLE IF NOT EXISTS payments (
    id text PRIMARY KEY, reference text NOT NULL, source text NOT NULL, amount bigint NOT NULL, currency text NOT NULL,
    status text NOT NULL, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
"""

# The lab kills the process here: call `await failpoint("payments.after_bank_answer")` between the answer and your commit.
register("payments.after_bank_answer")


class NewPayment(msgspec.Struct, frozen=True):
    """Body of POST /v1/payments. `source` is the card; `reference` is the merchant's, once per payment."""

    amount: int
    currency: str
    source: str
    reference: str


class Payment(msgspec.Struct, frozen=True):
    """What the client is shown. `status`: processing (answered with 202), captured (201) or failed (402)."""

    id: str
    status: str
    amount: int
    reference: str


@dataclass(frozen=True, slots=True)
class World:
    """What you have to work with. `bank` has the base URL and the key set, `db` is an asyncpg pool."""

    db: asyncpg.Pool[asyncpg.Record]
    bank: aiohttp.ClientSession
    events: AIOKafkaProducer


async def pay(world: World, wanted: NewPayment, idempotency_key: str) -> Payment:
    """Charge the card once, whatever dies in between and however often the client asks with the same key."""
    del world, wanted, idempotency_key
    raise Problem(501, "not_written_yet", "Write pay() in labs/week02/yours_day2.py")


async def show(world: World, payment: str) -> Payment | None:
    """For GET /v1/payments/<id>: clients that were told `processing` ask here."""
    del world, payment
    raise Problem(501, "not_written_yet", "Write show() in labs/week02/yours_day2.py")


async def background(world: World) -> None:
    """Runs as long as the process: a place to finish what a crash or a lost answer left open."""
    del world


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["YOURS_DATABASE_URL"]
    await ensure_database(url, TABLES)
    headers = {"Authorization": f"Bearer {os.environ['YOURS_BANK_API_KEY']}"}
    bank = aiohttp.ClientSession(os.environ["YOURS_BANK_URL"], headers=headers)
    kafka = patient_producer(os.environ["YOURS_KAFKA_BOOTSTRAP"], client_id="week02-day2-yours")
    async with asyncpg.create_pool(url) as db, bank, kafka as events:
        app.state.world = World(db, bank, events)
        loop = asyncio.create_task(background(app.state.world))
        yield
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


process = load(ProcessSettings)
app = service_app("week02-day2-yours", process, lifespan=lifespan)


@app.post("/v1/payments")
async def create(request: Request) -> Response:
    wanted = await read_json(request, NewPayment)
    payment = await pay(request.app.state.world, wanted, request.headers.get("idempotency-key", ""))
    status = {"processing": 202, "captured": 201, "failed": 402}[payment.status]
    return json_response(status, payment, {"Location": f"/v1/payments/{payment.id}"})


@app.get("/v1/payments/{identity}")
async def read(request: Request, identity: str) -> Response:
    payment = await show(request.app.state.world, identity)
    if payment is None:
        raise Problem(404, "not_found", "There is no such payment")
    return json_response(200, payment)


if __name__ == "__main__":
    serve(app, process, name="week02-day2-yours")
