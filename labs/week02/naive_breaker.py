"""Payments to a bank of ten shards as most people would write them: a connection for the request, one breaker for the bank.

`python -m labs.week02.naive_breaker global|none`
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from time import monotonic

import aiohttp
import asyncpg
import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from labs.week02.infrastructure import ensure_database
from services.kit import ids
from services.kit.errors import Problem
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.settings import ProcessSettings, load

BANK_TIMEOUT = aiohttp.ClientTimeout(total=2)
WINDOW_SECONDS = 5
MINIMUM_CALLS = 20
FAILURE_SHARE = 0.05
OPEN_SECONDS = 10
TABLE = """CREATE TABLE IF NOT EXISTS payments (
    id text PRIMARY KEY, reference text NOT NULL, source text NOT NULL, amount bigint NOT NULL, currency text NOT NULL,
    status text NOT NULL, charge_id text, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())"""


class NewPayment(msgspec.Struct):
    amount: int
    currency: str
    source: str
    reference: str


class Charge(msgspec.Struct):
    id: str
    status: str


class CircuitBreaker:
    def __init__(self) -> None:
        self.calls: deque[tuple[float, bool]] = deque()
        self.opened_at: float | None = None

    def check(self) -> None:
        if self.opened_at is not None and monotonic() - self.opened_at < OPEN_SECONDS:
            raise Problem(503, "bank_unavailable", "The bank is unavailable", headers={"Retry-After": "1"})
        self.opened_at = None

    def record(self, failed: bool) -> None:
        now = monotonic()
        self.calls.append((now, failed))
        while self.calls[0][0] < now - WINDOW_SECONDS:
            self.calls.popleft()
        failures = sum(failed for _, failed in self.calls)
        if len(self.calls) >= MINIMUM_CALLS and failures / len(self.calls) > FAILURE_SHARE:
            self.opened_at = now
            self.calls.clear()


class NoBreaker(CircuitBreaker):
    def check(self) -> None:
        return

    def record(self, failed: bool) -> None:
        return


class Payments:
    def __init__(
        self, db: asyncpg.Pool[asyncpg.Record], bank: aiohttp.ClientSession, shards: list[str], breaker: CircuitBreaker
    ) -> None:
        self.db, self.bank, self.shards, self.breaker = db, bank, shards, breaker

    async def pay(self, wanted: NewPayment) -> Response:
        self.breaker.check()
        async with self.db.acquire() as db:
            payment = ids.encode("pay", ids.uuid7())
            await db.execute(
                "INSERT INTO payments (id, reference, source, amount, currency, status) VALUES ($1, $2, $3, $4, $5, 'processing')",
                payment, wanted.reference, wanted.source, wanted.amount, wanted.currency,
            )  # fmt: skip
            charge = await self.charge(wanted)
            await db.execute(
                "UPDATE payments SET status = $2, charge_id = $3, updated_at = now() WHERE id = $1",
                payment, charge.status, charge.id,
            )  # fmt: skip
        return json_response(201, {"id": payment, "status": charge.status, **msgspec.structs.asdict(wanted)})

    async def charge(self, wanted: NewPayment) -> Charge:
        number = int.from_bytes(sha256(wanted.source.encode()).digest()[:8], "big") % len(self.shards)
        body = {**msgspec.structs.asdict(wanted), "capture": True}
        try:
            async with self.bank.post(f"{self.shards[number]}/v1/charges", json=body) as answer:
                answer.raise_for_status()
                charge = msgspec.json.decode(await answer.read(), type=Charge)
        except (TimeoutError, aiohttp.ClientError):
            self.breaker.record(failed=True)
            raise Problem(504, "bank_timeout", "The bank did not answer", headers={"Retry-After": "1"}) from None
        self.breaker.record(failed=False)
        return charge


BREAKERS = {"global": CircuitBreaker, "none": NoBreaker}


def create_app(process: ProcessSettings, kind: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = os.environ["NAIVE_DATABASE_URL"]
        await ensure_database(url, TABLE)
        headers = {"Authorization": f"Bearer {os.environ['NAIVE_BANK_API_KEY']}"}
        async with asyncpg.create_pool(url) as db, aiohttp.ClientSession(headers=headers, timeout=BANK_TIMEOUT) as bank:
            app.state.payments = Payments(db, bank, os.environ["NAIVE_BANK_SHARDS"].split(), BREAKERS[kind]())
            yield

    app = service_app(f"week02-day3-{kind}", process, lifespan=lifespan)

    @app.post("/v1/payments")
    async def create(request: Request) -> Response:
        payments: Payments = request.app.state.payments
        return await payments.pay(await read_json(request, NewPayment))

    return app


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in BREAKERS:
        sys.exit(f"usage: python -m labs.week02.naive_breaker {'|'.join(BREAKERS)}")
    settings = load(ProcessSettings)
    serve(create_app(settings, sys.argv[1]), settings, name=f"week02-day3-{sys.argv[1]}")
