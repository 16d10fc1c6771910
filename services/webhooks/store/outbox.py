"""Operational events that Kafka has not acknowledged yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.kit.store import Pool, connection

# Several keepers share the rows; events of one application may change order, which none of them speaks of.
_TAKE = """
SELECT id, event_id, type, application_id, body, traceparent, created_at FROM outbox
ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_ROWS = "SELECT count(*) FROM outbox"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An unpublished event."""

    id: int
    event_id: UUID
    type: str
    application_id: str
    body: bytes
    traceparent: str | None
    created_at: datetime


class OutboxStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def publish(
        self, limit: int, publish: Callable[[Sequence[OutboxRow]], Awaitable[Iterable[OutboxRow]]]
    ) -> int:
        """Hand the oldest rows to `publish` and delete those it gives back; return how many."""
        async with connection(self._pool) as db, db.transaction():
            rows = [OutboxRow(*row) for row in await db.fetch(_TAKE, limit)]
            done = [row.id for row in await publish(rows)] if rows else []
            if done:
                await db.execute(_DELETE, done)
        return len(done)

    async def waiting(self) -> int:
        """How many are not published."""
        async with connection(self._pool) as db:
            return int(await db.fetchval(_ROWS))
