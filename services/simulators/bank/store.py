"""All SQL of the bank. What is answered has been committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

import asyncpg

from services.kit.postgres import Pool, create_database
from services.simulators.bank.domain import Charge, ChargeStatus, Decision, Kind

PORTION = 500
"""Rows of the settlement file read at a time."""
SCHEMA_LOCK = 0x62616E6B
"""Advisory lock of those who create the schema; any number that nobody else uses."""


@dataclass(frozen=True, slots=True)
class NewCharge:
    """A charge that is to be written if its reference was never used. `answer` is the body that will be answered."""

    id: str
    reference: str | None
    fingerprint: str
    source: str
    amount: int
    currency: str
    status: ChargeStatus
    captured: int
    at: datetime
    answer: str
    behaviour: str | None
    shard: int | None = None


@dataclass(frozen=True, slots=True)
class NewOperation:
    """A capture, void or refund of an existing charge."""

    id: str
    charge: str
    reference: str | None
    fingerprint: str
    kind: Kind
    amount: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands under a reference."""

    kind: Kind
    fingerprint: str
    subject: str
    answer: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A row of `requests`: a call, what came of it, which behaviours struck it, and the shard whose port it came in by."""

    at: datetime
    path: str
    reference: str | None
    source: str | None
    outcome: str
    behaviour: str | None
    shard: int | None = None


WRITE_CHARGES = """
WITH input AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
                         $8::bigint[], $9::timestamptz[], $10::text[], $11::text[], $12::smallint[])
        AS t(id, reference, fingerprint, source, amount, currency, status, captured, at, answer, behaviour, shard)
), claimed AS (
    INSERT INTO references_seen (reference, kind, fingerprint, subject, answer, seen_at)
    SELECT reference, 'charge', fingerprint, id, answer, at FROM input WHERE reference IS NOT NULL ORDER BY reference
    ON CONFLICT (reference) DO NOTHING
    RETURNING subject
), accepted AS (
    SELECT * FROM input WHERE reference IS NULL OR id IN (SELECT subject FROM claimed)
), charged AS (
    INSERT INTO charges (id, reference, source, amount, currency, status, captured, created_at)
    SELECT id, reference, source, amount, currency, status, captured, at FROM accepted
), effected AS (
    INSERT INTO effects (charge_id, reference, kind, amount, at)
    SELECT id, reference, effect.kind, amount, at
    FROM accepted JOIN (VALUES ('authorised', 1, 'authorise'), ('captured', 1, 'authorise'), ('captured', 2, 'capture'))
        AS effect(status, step, kind) USING (status)
    ORDER BY id, effect.step
), logged AS (
    INSERT INTO requests (at, path, reference, source, outcome, behaviour, shard)
    SELECT at, '/v1/charges', reference, source, status, behaviour, shard FROM accepted
    UNION ALL
    SELECT * FROM unnest($13::timestamptz[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
                         $19::smallint[])
)
SELECT id FROM accepted
"""


async def prepare_database(url: str) -> None:
    """Create the database and its tables where they are absent; two at once are safe. Raises asyncpg errors."""
    schema = resources.files(__package__).joinpath("schema.sql").read_text()
    await create_database(url, schema, lock=SCHEMA_LOCK)


async def write_charges(pool: Pool, charges: Sequence[NewCharge], lines: Sequence[RequestLine]) -> set[str]:
    """Execute charges and log calls in one commit; ids of the charges executed: the others' references were taken.

    The unique row of references_seen decides, so a cancel or another bank process at the same instant is safe.
    """
    rows = await pool.fetch(
        WRITE_CHARGES,
        [c.id for c in charges],
        [c.reference for c in charges],
        [c.fingerprint for c in charges],
        [c.source for c in charges],
        [c.amount for c in charges],
        [c.currency for c in charges],
        [c.status.value for c in charges],
        [c.captured for c in charges],
        [c.at for c in charges],
        [c.answer for c in charges],
        [c.behaviour for c in charges],
        [c.shard for c in charges],
        [line.at for line in lines],
        [line.path for line in lines],
        [line.reference for line in lines],
        [line.source for line in lines],
        [line.outcome for line in lines],
        [line.behaviour for line in lines],
        [line.shard for line in lines],
    )
    return {row["id"] for row in rows}


async def seen(pool: Pool, reference: str) -> Seen | None:
    """What stands under a reference, cancelled ones included."""
    row = await pool.fetchrow(
        "SELECT kind, fingerprint, subject, answer, seen_at FROM references_seen WHERE reference = $1", reference
    )
    return _seen(row) if row else None


def _seen(row: asyncpg.Record) -> Seen:
    return Seen(Kind(row["kind"]), row["fingerprint"], row["subject"], row["answer"], row["seen_at"])


async def cancel(pool: Pool, reference: str, answer: str, at: datetime) -> Seen:
    """Take the reference for good if nobody has; return what stands under it now."""
    await pool.execute(
        "INSERT INTO references_seen (reference, kind, fingerprint, subject, answer, seen_at)"
        " VALUES ($1, 'cancelled', '', '', $2, $3) ON CONFLICT (reference) DO NOTHING",
        reference,
        answer,
        at,
    )
    # A row that was there before belongs to a committed transaction: ON CONFLICT waited for it.
    row = await pool.fetchrow(
        "SELECT kind, fingerprint, subject, answer, seen_at FROM references_seen WHERE reference = $1", reference
    )
    assert row is not None
    return _seen(row)


class OperationBook:
    """One capture, void or refund in a transaction that holds the charge's row lock. Use as `async with`."""

    def __init__(self, pool: Pool, new: NewOperation) -> None:
        self._pool = pool
        self._new = new

    async def __aenter__(self) -> OperationBook:
        self._connection = await self._pool.acquire()
        self._transaction = self._connection.transaction()
        await self._transaction.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self._transaction.commit()
            else:
                await self._transaction.rollback()
        finally:
            await self._pool.release(self._connection)

    async def lock_charge(self) -> Charge | None:
        """The charge as it stands, held until the end."""
        row = await self._connection.fetchrow(
            "SELECT id, amount, status, captured, refunded FROM charges WHERE id = $1 FOR UPDATE", self._new.charge
        )
        if row is None:
            return None
        return Charge(row["id"], row["amount"], ChargeStatus(row["status"]), row["captured"], row["refunded"])

    async def claim(self, answer: str) -> bool:
        """Write the answer under the reference; False if the reference is taken. Without a reference always True."""
        new = self._new
        if new.reference is None:
            return True
        claimed = await self._connection.fetchval(
            "INSERT INTO references_seen (reference, kind, fingerprint, subject, answer, seen_at)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (reference) DO NOTHING RETURNING subject",
            new.reference,
            new.kind.value,
            new.fingerprint,
            new.id,
            answer,
            new.at,
        )
        return claimed is not None

    async def apply(self, decision: Decision, amount: int) -> None:
        """Write the charge's new state and the effect; nothing if it was declined."""
        if decision.decline_code is not None:
            return
        charge, new = decision.charge, self._new
        await self._connection.execute(
            "UPDATE charges SET status = $2, captured = $3, refunded = $4 WHERE id = $1",
            charge.id,
            charge.status.value,
            charge.captured,
            charge.refunded,
        )
        await self._connection.execute(
            "INSERT INTO effects (charge_id, reference, kind, amount, at) VALUES ($1, $2, $3, $4, $5)",
            charge.id,
            new.reference,
            new.kind.value,
            amount,
            new.at,
        )


async def settled_between(pool: Pool, start: datetime, end: datetime) -> AsyncIterator[list[asyncpg.Record]]:
    """Captures and refunds of [start, end) in the order they happened, in portions: charges go on between them."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor(
            "SELECT e.id, e.charge_id, e.reference, e.kind, e.amount, c.currency, c.source, e.at"
            " FROM effects e JOIN charges c ON c.id = e.charge_id"
            " WHERE e.kind IN ('capture', 'refund') AND e.at >= $1 AND e.at < $2 ORDER BY e.id",
            start,
            end,
        )
        while rows := await cursor.fetch(PORTION):
            yield rows
