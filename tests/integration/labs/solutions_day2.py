"""Answers that learners might give to day 2, a right one and plausible wrong ones; the checker must tell them apart."""

from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
from aiokafka.errors import KafkaError

from services.kit import ids
from services.kit.errors import Unavailable
from services.kit.kafka import EventHead

PAYMENTS = """
CREATE TABLE IF NOT EXISTS payments (
    id text PRIMARY KEY, key text, reference text NOT NULL, source text NOT NULL, amount bigint NOT NULL,
    currency text NOT NULL, status text NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (id text PRIMARY KEY, payment text NOT NULL, reference text NOT NULL);
"""
ONE_OF_A_KEY = "CREATE UNIQUE INDEX IF NOT EXISTS one_of_a_key ON payments (key);"
BEGIN = (
    "INSERT INTO payments (id, key, reference, source, amount, currency, status)"
    " VALUES ($1, $2, $3, $4, $5, $6, 'processing')"
)
OF_A_KEY = "SELECT * FROM payments WHERE key = $1"
SETTLE = "UPDATE payments SET status = $2 WHERE id = $1 AND status = 'processing' RETURNING id"
ANNOUNCE = "INSERT INTO outbox (id, payment, reference) VALUES ($1, $2, $3)"
PATIENCE = aiohttp.ClientTimeout(total=0.5)
NO_ANSWER = (aiohttp.ClientError, TimeoutError)


class Right:
    """A key that only one payment can have, a reference that is stored before the call, state and event in one commit."""

    tables = PAYMENTS + ONE_OF_A_KEY

    def __init__(self, yours: ModuleType) -> None:
        self.yours = yours

    async def pay(self, world: Any, wanted: Any, key: str) -> Any:
        row = await self.begin(world, wanted, key)
        if row["status"] == "processing":
            row = await self.charge(world, row)
        await self.publish(world)
        return self.yours.Payment(row["id"], row["status"], row["amount"], row["reference"])

    async def begin(self, world: Any, wanted: Any, key: str) -> Any:
        payment = ids.encode("pay", ids.uuid7())
        values = (payment, key, wanted.reference, wanted.source, wanted.amount, wanted.currency)
        await world.db.execute(f"{BEGIN} ON CONFLICT (key) DO NOTHING", *values)
        return await world.db.fetchrow(OF_A_KEY, key)

    def reference(self, row: Any) -> str | None:
        return str(row["id"])

    async def charge(self, world: Any, row: Any) -> Any:
        status = await self.asked(world, row)
        if status is None:
            return row
        await self.yours.failpoint("payments.after_bank_answer")
        await self.settle(world, row, status)
        return await world.db.fetchrow("SELECT * FROM payments WHERE id = $1", row["id"])

    async def asked(self, world: Any, row: Any) -> str | None:
        """What the bank made of it; None if it did not say."""
        body = {"source": row["source"], "amount": row["amount"], "currency": row["currency"], "capture": True}
        if (reference := self.reference(row)) is not None:
            body["reference"] = reference
        try:
            async with world.bank.post("/v1/charges", json=body, timeout=PATIENCE) as answer:
                if answer.status >= 500:
                    return None
                return "captured" if (await answer.json())["status"] == "captured" else "failed"
        except NO_ANSWER:
            return None

    async def settle(self, world: Any, row: Any, status: str) -> None:
        async with world.db.acquire() as connection, connection.transaction():
            if await connection.fetchval(SETTLE, row["id"], status) and status == "captured":
                await connection.execute(ANNOUNCE, ids.encode("evt", ids.uuid7()), row["id"], row["reference"])

    async def publish(self, world: Any) -> None:
        for row in await world.db.fetch("SELECT * FROM outbox ORDER BY id"):
            try:
                await self.send(world, row["id"], row["payment"], row["reference"])
            except KafkaError:
                return
            await world.db.execute("DELETE FROM outbox WHERE id = $1", row["id"])

    async def send(self, world: Any, event: str, payment: str, reference: str) -> None:
        head = EventHead(event, "payments.payment.captured", "yours", payment, datetime.now(UTC))
        value = msgspec.json.encode({"reference": reference})
        await world.events.send_and_wait(self.yours.TOPIC, value, key=payment.encode(), headers=head.headers())

    async def finish(self, world: Any) -> None:
        """A pass of `background`."""
        for row in await world.db.fetch("SELECT * FROM payments WHERE status = 'processing'"):
            await self.charge(world, row)
        await self.publish(world)


class NoReference(Right):
    """The client's key is honoured, and the bank is told none: each attempt is a new order there."""

    def reference(self, row: Any) -> str | None:
        return None


class LookThenInsert(Right):
    """Is there a payment of this key? If not, make one. Two can look before either has made it."""

    tables = PAYMENTS

    async def begin(self, world: Any, wanted: Any, key: str) -> Any:
        if (row := await world.db.fetchrow(OF_A_KEY, key)) is not None:
            return row
        await self.yours.failpoint("between looking and inserting")
        payment = ids.encode("pay", ids.uuid7())
        values = (payment, key, wanted.reference, wanted.source, wanted.amount, wanted.currency)
        await world.db.execute(BEGIN, *values)
        return await world.db.fetchrow("SELECT * FROM payments WHERE id = $1", payment)


class SilenceIsFailure(Right):
    """No answer, so it has failed, and so the client is told."""

    async def asked(self, world: Any, row: Any) -> str | None:
        return await super().asked(world, row) or "failed"


class EventAfterwards(Right):
    """Save, then publish: what dies between the two has no event."""

    async def settle(self, world: Any, row: Any, status: str) -> None:
        if await world.db.fetchval(SETTLE, row["id"], status) and status == "captured":
            try:
                await self.send(world, str(uuid4()), row["id"], row["reference"])
            except KafkaError as error:
                raise Unavailable("The payment was made; its event was not sent.") from error


class NewPaymentEachTime(Right):
    """The key is not looked at: the client's second try is a second payment."""

    async def begin(self, world: Any, wanted: Any, key: str) -> Any:
        return await super().begin(world, wanted, str(uuid4()))
