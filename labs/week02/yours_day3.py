"""Your turn: guard ten shards. `make lab week=2 day=3 variant=yours` judges it as it judged the others.

The service is here, and it holds nothing while the bank is called; what is missing is `Guard`. It is asked before each call
to a shard and told how each call ended. Scenarios: one shard dead, two slow, all of them silent and then back.

The checker reads the client's history and the bank's record: while some shards are away, 99 % of the cards of the others are
answered within 2 s, and 4 s after it began half of their own cards are refused within 1 s; while all are away, half of the
clients are told so within 1 s, 4 s after it began; 4 s after the heal 95 % are served; and nobody who was told that nothing was done has been charged.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
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
TABLE = """CREATE TABLE IF NOT EXISTS payments (
    id text PRIMARY KEY, reference text NOT NULL, source text NOT NULL, amount bigint NOT NULL, currency text NOT NULL,
    status text NOT NULL, charge_id text, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())"""


class Ending(Enum):
    """How a call to a shard ended. Each of them may have been fast or slow."""

    ANSWERED = "answered"
    FAILED = "failed"
    """No answer, or a 5xx."""
    REFUSED = "refused"
    """A 4xx: we asked for something wrong."""
    LEFT = "left"
    """Our own caller hung up, so the call was cancelled."""


class Guard:
    """One for the process; `now` is time.monotonic() in seconds."""

    def wait(self, shard: int, now: float) -> float | None:
        """None: the call is made, and `ended` will be told. Otherwise it is not, and the client is told to wait so long."""
        del shard, now
        raise Problem(501, "not_written_yet", "Write Guard in labs/week02/yours_day3.py")

    def ended(self, shard: int, now: float, ending: Ending, seconds: float) -> None:
        """A call that was let through has ended, `seconds` after it began."""


class NewPayment(msgspec.Struct):
    """Body of POST /v1/payments."""

    amount: int
    currency: str
    source: str
    reference: str


class Charge(msgspec.Struct):
    """What the bank answers."""

    id: str
    status: str


class Payments:
    """The service around the guard."""

    def __init__(
        self, db: asyncpg.Pool[asyncpg.Record], bank: aiohttp.ClientSession, shards: list[str], guard: Guard
    ) -> None:
        self.db, self.bank, self.shards, self.guard = db, bank, shards, guard

    async def pay(self, wanted: NewPayment) -> Response:
        """Refuse before anything is written; hold no connection while the bank is called."""
        shard = int.from_bytes(sha256(wanted.source.encode()).digest()[:8], "big") % len(self.shards)
        if (seconds := self.guard.wait(shard, monotonic())) is not None:
            retry = {"Retry-After": str(max(1, round(seconds)))}
            raise Problem(503, "bank_unavailable", "The bank is not to be called for this card now", headers=retry)
        began, ending = monotonic(), Ending.LEFT
        try:
            payment = await self.insert(wanted)
            charge, ending = await self.charge(shard, wanted)
        finally:
            self.guard.ended(shard, monotonic(), ending, monotonic() - began)
        if charge is None:
            raise Problem(504, "bank_timeout", "The bank did not answer", headers={"Retry-After": "1"})
        await self.db.execute(
            "UPDATE payments SET status = $2, charge_id = $3, updated_at = now() WHERE id = $1",
            payment, charge.status, charge.id,
        )  # fmt: skip
        return json_response(201, {"id": payment, "status": charge.status, **msgspec.structs.asdict(wanted)})

    async def insert(self, wanted: NewPayment) -> str:
        """Its id."""
        payment = ids.encode("pay", ids.uuid7())
        await self.db.execute(
            "INSERT INTO payments (id, reference, source, amount, currency, status) VALUES ($1, $2, $3, $4, $5, 'processing')",
            payment, wanted.reference, wanted.source, wanted.amount, wanted.currency,
        )  # fmt: skip
        return payment

    async def charge(self, shard: int, wanted: NewPayment) -> tuple[Charge | None, Ending]:
        """The bank's answer, if there was one."""
        body = {**msgspec.structs.asdict(wanted), "capture": True}
        try:
            async with self.bank.post(f"{self.shards[shard]}/v1/charges", json=body) as answer:
                if answer.status >= 500:
                    return None, Ending.FAILED
                if answer.status >= 400:
                    return None, Ending.REFUSED
                return msgspec.json.decode(await answer.read(), type=Charge), Ending.ANSWERED
        except (TimeoutError, aiohttp.ClientError, msgspec.DecodeError):
            return None, Ending.FAILED


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Database, bank and guard."""
    url = os.environ["NAIVE_DATABASE_URL"]
    await ensure_database(url, TABLE)
    headers = {"Authorization": f"Bearer {os.environ['NAIVE_BANK_API_KEY']}"}
    bank = aiohttp.ClientSession(headers=headers, timeout=BANK_TIMEOUT, connector=aiohttp.TCPConnector(limit=0))
    async with asyncpg.create_pool(url) as db, bank:
        app.state.payments = Payments(db, bank, os.environ["NAIVE_BANK_SHARDS"].split(), Guard())
        yield


def create_app(process: ProcessSettings) -> FastAPI:
    """The application."""
    app = service_app("week02-day3-yours", process, lifespan=lifespan)

    @app.post("/v1/payments")
    async def create(request: Request) -> Response:
        payments: Payments = request.app.state.payments
        return await payments.pay(await read_json(request, NewPayment))

    return app


if __name__ == "__main__":
    settings = load(ProcessSettings)
    serve(create_app(settings), settings, name="week02-day3-yours")
