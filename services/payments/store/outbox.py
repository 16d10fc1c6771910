"""The outbox, as the relay sees it: over one connection of its own, which also holds the relays' lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from services.kit import postgres
from services.payments.store.connection import Pool, connection

LOCK = 1_886_351_993

_TAKE = """
SELECT id, payment_id, event_id, type, body, traceparent, created_at FROM outbox ORDER BY id LIMIT $1
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_LAG = """
SELECT count(*) AS rows, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest FROM outbox
"""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An unpublished event."""

    id: int
    payment_id: UUID
    event_id: UUID
    type: str
    body: bytes
    traceparent: str | None
    created_at: datetime

    @property
    def entity(self) -> UUID:
        """What events are ordered by."""
        return self.payment_id


class Outbox:
    """What is unpublished. Raises postgres.DATABASE_ERRORS."""

    def __init__(self, db: asyncpg.Connection[asyncpg.Record]) -> None:
        self._db = db

    async def lock(self) -> bool:
        """Become the one active relay of this database, for as long as the connection lasts."""
        return bool(await self._db.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))

    async def check(self) -> None:
        """One round trip."""
        await self._db.fetchval("SELECT 1")

    async def take(self, limit: int) -> list[OutboxRow]:
        """The oldest rows, in the order of their ids. Of one payment this is the order of its sequence."""
        return [OutboxRow(*row) for row in await self._db.fetch(_TAKE, limit)]

    async def delete(self, rows: Iterable[OutboxRow]) -> None:
        """Forget what is published."""
        await self._db.execute(_DELETE, [row.id for row in rows])


@asynccontextmanager
async def open_outbox(url: str) -> AsyncIterator[Outbox]:
    """Connect. Keep-alives let the server notice that a relay is gone, so that its lock does not outlive it for long."""
    db = await asyncpg.connect(
        url,
        timeout=postgres.CONNECT_SECONDS,
        command_timeout=10,
        server_settings={
            "application_name": "payments-relay",
            "tcp_keepalives_idle": "3",
            "tcp_keepalives_interval": "1",
            "tcp_keepalives_count": "3",
        },
    )
    try:
        yield Outbox(db)
    finally:
        db.terminate()


async def lag(pool: Pool) -> tuple[int, float]:
    """Unpublished events and the age of the oldest in seconds. Raises StoreUnavailable."""
    async with connection(pool) as db:
        row = await db.fetchrow(_LAG)
    assert row is not None
    return row["rows"], row["oldest"]
