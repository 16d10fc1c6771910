"""Messages and their fan-out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.kit.store import Connection, Pool, connection

# LIMIT 1 on a unique key changes nothing but the plan: it keeps the look-up inside the loop, whatever the statistics say,
# which on young tables are guesses. One statement for a batch: the messages that are new, and for each a delivery to every endpoint that wants its type. An
# endpoint that is switched off gets its delivery too, dead from the start, so that it can be replayed.
FAN_OUT = """
WITH input AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::bytea[], $7::bytea[], $8::text[],
                         $9::text[])
        AS t (id, application_id, event_id, event_type, operational, payload, fingerprint, traceparent, dead_reason)
), made AS (
    INSERT INTO messages (id, application_id, event_id, event_type, operational, payload, fingerprint, traceparent, created_at)
    SELECT id, application_id, event_id, event_type, operational, payload, fingerprint, traceparent, now() FROM input
    ON CONFLICT (application_id, event_id) DO NOTHING
    RETURNING id, application_id, event_type, operational, created_at
), fanned AS (
    INSERT INTO deliveries (id, message_id, endpoint_id, application_id, state, dead_reason, next_attempt_at, created_at, updated_at)
    SELECT uuid7(), m.id, e.id, m.application_id,
           CASE WHEN dead.reason IS NULL THEN 'scheduled' ELSE 'dead' END, dead.reason,
           CASE WHEN dead.reason IS NULL THEN now() + $10 * interval '1 second' END, now(), now()
    FROM made m JOIN input i ON i.id = m.id
    CROSS JOIN LATERAL (
        SELECT endpoint_id FROM subscriptions WHERE application_id = m.application_id AND event_type = m.event_type
        UNION ALL
        SELECT endpoint_id FROM subscriptions
        WHERE application_id = m.application_id AND event_type = '*' AND NOT m.operational
    ) s
    CROSS JOIN LATERAL (
        SELECT id, enabled FROM endpoints WHERE id = s.endpoint_id AND deleted_at IS NULL LIMIT 1) e
    CROSS JOIN LATERAL (
        SELECT coalesce(i.dead_reason, CASE WHEN NOT e.enabled THEN 'endpoint_disabled' END) AS reason) dead
)
SELECT id, created_at FROM made
"""
_EXISTING = """
SELECT m.id, m.application_id, m.event_id, m.fingerprint, m.created_at
FROM unnest($1::text[], $2::text[]) AS t (application_id, event_id)
JOIN messages m ON m.application_id = t.application_id AND m.event_id = t.event_id
"""

_COUNTS = """
SELECT d.state, count(*) AS n FROM deliveries d WHERE d.message_id = $1 GROUP BY d.state
"""
_MESSAGE = """
SELECT id, event_id, event_type, payload, operational, created_at FROM messages WHERE id = $1 AND application_id = $2
"""
_DELIVERIES = """
SELECT d.id, d.endpoint_id, d.state, d.attempts, d.next_attempt_at, d.dead_reason, d.updated_at
FROM deliveries d WHERE d.message_id = $1 ORDER BY d.endpoint_id LIMIT $2
"""
_ATTEMPTS = """
SELECT a.id, a.delivery_id, a.endpoint_id, a.number, a.started_at, a.finished_at, a.outcome, a.status, a.error, a.response_body
FROM deliveries d JOIN attempts a ON a.delivery_id = d.id
WHERE d.message_id = $1 AND ($2::uuid IS NULL OR a.id < $2) AND ($3::uuid IS NULL OR d.endpoint_id = $3)
ORDER BY a.id DESC LIMIT $4
"""
# Ids are UUIDv7, so a range of time is a range of ids.
_SEARCH_ALL = """
SELECT m.id, m.event_id, m.event_type, m.created_at FROM messages m
WHERE m.application_id = $1 AND m.id > $2 AND m.id < $3 AND ($4::text IS NULL OR m.event_type = $4)
  AND ($5::text IS NULL OR EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id AND d.state = $5))
ORDER BY m.id DESC LIMIT $6
"""
_SEARCH_DEAD = """
SELECT m.id, m.event_id, m.event_type, m.created_at
FROM (SELECT DISTINCT d.message_id FROM deliveries d
      WHERE d.application_id = $1 AND d.state = 'dead' AND d.message_id > $2 AND d.message_id < $3) d
JOIN messages m ON m.id = d.message_id
WHERE ($4::text IS NULL OR m.event_type = $4) AND $5::text = 'dead'
ORDER BY m.id DESC LIMIT $6
"""
_SEARCH_ENDPOINT = """
SELECT m.id, m.event_id, m.event_type, m.created_at
FROM deliveries d JOIN messages m ON m.id = d.message_id
WHERE d.endpoint_id = $7 AND d.application_id = $1 AND d.message_id > $2 AND d.message_id < $3
  AND ($4::text IS NULL OR m.event_type = $4) AND ($5::text IS NULL OR d.state = $5)
ORDER BY d.message_id DESC LIMIT $6
"""
_BACKLOG = """
SELECT application_id, count(*) AS n FROM deliveries WHERE state = 'scheduled' GROUP BY application_id
"""
_EXPIRED = """
SELECT m.id FROM messages m WHERE m.id < $1
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id AND d.state IN ('scheduled', 'in_flight'))
ORDER BY m.id LIMIT $2
"""
_DELETE = """
WITH dropped AS (DELETE FROM deliveries WHERE message_id = ANY($1::uuid[]) RETURNING id),
     logged AS (DELETE FROM attempts a USING dropped d WHERE a.delivery_id = d.id)
DELETE FROM messages WHERE id = ANY($1::uuid[])
"""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """`payload` is the JSON object as it came; `fingerprint` binds the event id to its content."""

    id: UUID
    application_id: str
    event_id: str
    event_type: str
    payload: bytes
    fingerprint: bytes
    traceparent: str | None
    operational: bool = False
    dead_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is stored under an event id. `new` if this call stored it."""

    id: UUID
    created_at: datetime
    fingerprint: bytes
    new: bool


@dataclass(frozen=True, slots=True)
class MessageRow:
    """For lists."""

    id: UUID
    event_id: str
    event_type: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One message whole."""

    id: UUID
    event_id: str
    event_type: str
    payload: bytes
    operational: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One endpoint's delivery of a message."""

    id: UUID
    endpoint_id: UUID
    state: str
    attempts: int
    next_attempt_at: datetime | None
    dead_reason: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """A line of the log."""

    id: UUID
    delivery_id: UUID
    endpoint_id: UUID
    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    status: int | None
    error: str | None
    response_body: bytes | None


@dataclass(frozen=True, slots=True)
class Search:
    """`first` and `last` are exclusive bounds of message ids."""

    application_id: str
    first: UUID
    last: UUID
    event_type: str | None = None
    state: str | None = None
    endpoint: UUID | None = None


class MessageStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool, *, first_delay_seconds: float = 0.0) -> None:
        self._pool = pool
        self._first_delay = first_delay_seconds

    async def accept(self, batch: Sequence[NewMessage]) -> list[Accepted]:
        """Store what is new and fan it out, in one commit; say for each what is now stored under its event id."""
        async with connection(self._pool) as db:
            made = await fan_out(db, batch, self._first_delay)
            others = [each for each in batch if each.id not in made]
            known = await self._known(db, others) if others else {}
        return [
            Accepted(each.id, made[each.id], each.fingerprint, new=True)
            if each.id in made
            else known[each.application_id, each.event_id]
            for each in batch
        ]

    @staticmethod
    async def _known(db: Connection, batch: Sequence[NewMessage]) -> dict[tuple[str, str], Accepted]:
        rows = await db.fetch(_EXISTING, [each.application_id for each in batch], [each.event_id for each in batch])
        return {
            (row["application_id"], row["event_id"]): Accepted(
                row["id"], row["created_at"], row["fingerprint"], new=False
            )
            for row in rows
        }

    async def message(self, application_id: str, message_id: UUID) -> Message | None:
        """A message of this application."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_MESSAGE, message_id, application_id)
        return None if row is None else Message(*row)

    async def counts(self, message_id: UUID) -> dict[str, int]:
        """Deliveries by state."""
        async with connection(self._pool) as db:
            return {row["state"]: row["n"] for row in await db.fetch(_COUNTS, message_id)}

    async def deliveries(self, message_id: UUID, limit: int) -> list[DeliveryRow]:
        """In the order of the endpoints' ids."""
        async with connection(self._pool) as db:
            return [DeliveryRow(*row) for row in await db.fetch(_DELIVERIES, message_id, limit)]

    async def attempts(
        self, message_id: UUID, before: UUID | None, endpoint: UUID | None, limit: int
    ) -> list[AttemptRow]:
        """Newest first."""
        async with connection(self._pool) as db:
            return [AttemptRow(*row) for row in await db.fetch(_ATTEMPTS, message_id, before, endpoint, limit)]

    async def search(self, wanted: Search, limit: int) -> list[MessageRow]:
        """Newest first."""
        arguments = [wanted.application_id, wanted.first, wanted.last, wanted.event_type, wanted.state, limit]
        if wanted.endpoint is not None:
            query, arguments = _SEARCH_ENDPOINT, [*arguments, wanted.endpoint]
        else:
            query = _SEARCH_DEAD if wanted.state == "dead" else _SEARCH_ALL
        async with connection(self._pool) as db:
            return [MessageRow(*row) for row in await db.fetch(query, *arguments)]

    async def backlog(self) -> dict[str, int]:
        """Scheduled deliveries by application."""
        async with connection(self._pool) as db:
            return {row["application_id"]: row["n"] for row in await db.fetch(_BACKLOG)}

    async def forget(self, before: UUID, limit: int) -> int:
        """Delete messages with ids below `before`, with all that belongs to them; return how many."""
        async with connection(self._pool) as db, db.transaction():
            ids = [row["id"] for row in await db.fetch(_EXPIRED, before, limit)]
            if ids:
                await db.execute(_DELETE, ids)
        return len(ids)


async def fan_out(db: Connection, batch: Sequence[NewMessage], delay_seconds: float) -> dict[UUID, datetime]:
    """Insert and fan out on this connection; the ids that are new, with their times."""
    rows = await db.fetch(
        FAN_OUT,
        [each.id for each in batch],
        [each.application_id for each in batch],
        [each.event_id for each in batch],
        [each.event_type for each in batch],
        [each.operational for each in batch],
        [each.payload for each in batch],
        [each.fingerprint for each in batch],
        [each.traceparent for each in batch],
        [each.dead_reason for each in batch],
        delay_seconds,
    )
    return {row["id"]: row["created_at"] for row in rows}
