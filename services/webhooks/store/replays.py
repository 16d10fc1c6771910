"""Resending one delivery, and replays of many that go on where a killed keeper stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.kit.store import Pool, connection

_RESEND = """
INSERT INTO deliveries (id, message_id, endpoint_id, application_id, state, next_attempt_at, created_at, updated_at)
VALUES (uuid7(), $1, $2, $3, 'scheduled', now(), now(), now())
ON CONFLICT (message_id, endpoint_id) DO UPDATE
SET state = 'scheduled', next_attempt_at = now(), step = 0, dead_reason = NULL, attempt_id = NULL, claimed_until = NULL,
    updated_at = now()
WHERE deliveries.state <> 'in_flight'
RETURNING id, endpoint_id, state, attempts, next_attempt_at, dead_reason, updated_at
"""

# One order for all replays: by message, then endpoint. Two forms, so that each walks its own index.
_OF_APPLICATION = """
SELECT d.id, d.message_id, d.endpoint_id, d.state, e.enabled
FROM messages m JOIN deliveries d ON d.message_id = m.id JOIN endpoints e ON e.id = d.endpoint_id
WHERE m.application_id = $1 AND m.id >= $2 AND m.id < $3 AND $6::uuid IS NULL
  AND m.id >= $4 AND (d.message_id, d.endpoint_id) > ($4, $5)
"""
_OF_ENDPOINT = """
SELECT d.id, d.message_id, d.endpoint_id, d.state, e.enabled
FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id
WHERE d.application_id = $1 AND d.message_id >= $2 AND d.message_id < $3 AND d.endpoint_id = $6
  AND d.message_id >= $4 AND (d.message_id, d.endpoint_id) > ($4, $5)
"""
_CHOSEN = "d.state = ANY($7::text[]) AND e.enabled"
_ORDER = "ORDER BY d.message_id, d.endpoint_id LIMIT $8 FOR UPDATE OF d"

_COUNT = "SELECT count(*) FROM ({scope} AND {chosen}) t"
_BATCH = "{scope} AND {chosen} {order}"
_AGAIN = """
UPDATE deliveries SET state = 'scheduled', next_attempt_at = now(), step = 0, dead_reason = NULL, attempt_id = NULL,
                      claimed_until = NULL, updated_at = now()
WHERE id = ANY($1::uuid[])
"""
_COLUMNS = """
id, application_id, endpoint_id, first_message, last_message, states, rate_per_second, matched, replayed, cursor_message,
cursor_endpoint, state, created_at, finished_at, fingerprint
"""
_INSERT = f"""
INSERT INTO replays (id, application_id, idempotency_key, fingerprint, endpoint_id, first_message, last_message, states,
                     rate_per_second, matched, cursor_message, cursor_endpoint)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $6, '00000000-0000-0000-0000-000000000000')
ON CONFLICT (application_id, idempotency_key) DO NOTHING RETURNING {_COLUMNS}
"""  # noqa: S608  # constants
_OF_KEY = f"SELECT {_COLUMNS} FROM replays WHERE application_id = $1 AND idempotency_key = $2"  # noqa: S608
_ONE = f"SELECT {_COLUMNS} FROM replays WHERE id = $1 AND application_id = $2"  # noqa: S608
_RUNNING = "SELECT id, rate_per_second FROM replays WHERE state = 'running' ORDER BY id LIMIT $1"
_LOCK = f"SELECT {_COLUMNS} FROM replays WHERE id = $1 AND state = 'running' FOR UPDATE SKIP LOCKED"  # noqa: S608
_MOVE = "UPDATE replays SET replayed = replayed + $2, cursor_message = $3, cursor_endpoint = $4 WHERE id = $1"
_DONE = "UPDATE replays SET state = 'done', finished_at = now() WHERE id = $1"
_FORGET = "DELETE FROM replays WHERE state = 'done' AND finished_at < $1"


@dataclass(frozen=True, slots=True)
class Selection:
    """Deliveries of messages with first <= id < last, to enabled endpoints, in one of the states."""

    application_id: str
    endpoint: UUID | None
    first: UUID
    last: UUID
    states: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """`cursor_*`: everything up to there is done."""

    id: UUID
    application_id: str
    endpoint_id: UUID | None
    first_message: UUID
    last_message: UUID
    states: list[str]
    rate_per_second: int
    matched: int
    replayed: int
    cursor_message: UUID
    cursor_endpoint: UUID
    state: str
    created_at: datetime
    finished_at: datetime | None
    fingerprint: bytes


ZERO = UUID(int=0)


class ReplayStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def resend(self, application_id: str, message_id: UUID, endpoint_id: UUID) -> tuple[object, ...] | None:
        """Schedule one delivery at once, also to an endpoint that never had it. None if it is being attempted."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_RESEND, message_id, endpoint_id, application_id)
        return None if row is None else tuple(row)

    async def count(self, wanted: Selection) -> int:
        """How many a replay would find now."""
        query = _COUNT.format(scope=_scope(wanted.endpoint), chosen=_CHOSEN)
        async with connection(self._pool) as db:
            return int(await db.fetchval(query, *_arguments(wanted, wanted.first, ZERO)))

    async def create(
        self, replay: UUID, wanted: Selection, key: str, fingerprint: bytes, rate: int, matched: int
    ) -> Replay:
        """Store it, or give back the one that has this key; the caller compares fingerprints."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(
                _INSERT, replay, wanted.application_id, key, fingerprint, wanted.endpoint, wanted.first, wanted.last,
                list(wanted.states), rate, matched,
            )  # fmt: skip
            if row is None:
                row = await db.fetchrow(_OF_KEY, wanted.application_id, key)
        assert row is not None
        return Replay(*row)

    async def of_key(self, application_id: str, key: str) -> Replay | None:
        """The replay that was asked for under this key."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_OF_KEY, application_id, key)
        return None if row is None else Replay(*row)

    async def get(self, application_id: str, replay_id: UUID) -> Replay | None:
        """A replay of this application."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_ONE, replay_id, application_id)
        return None if row is None else Replay(*row)

    async def running(self, limit: int) -> dict[UUID, int]:
        """Those that are not finished, with their rates."""
        async with connection(self._pool) as db:
            return {row["id"]: row["rate_per_second"] for row in await db.fetch(_RUNNING, limit)}

    async def step(self, replay_id: UUID, limit: int) -> int | None:
        """Replay up to `limit` and move the cursor in the same commit; return how many. None if there is nothing left.

        0 if another keeper is at it.
        """
        async with connection(self._pool) as db, db.transaction():
            row = await db.fetchrow(_LOCK, replay_id)
            if row is None:
                return 0
            replay = Replay(*row)
            wanted = Selection(
                replay.application_id,
                replay.endpoint_id,
                replay.first_message,
                replay.last_message,
                tuple(replay.states),
            )
            query = _BATCH.format(scope=_scope(wanted.endpoint), chosen=_CHOSEN, order=_ORDER)
            rows = await db.fetch(query, *_arguments(wanted, replay.cursor_message, replay.cursor_endpoint), limit)
            if not rows:
                await db.execute(_DONE, replay_id)
                return None
            await db.execute(_AGAIN, [found["id"] for found in rows])
            await db.execute(_MOVE, replay_id, len(rows), rows[-1]["message_id"], rows[-1]["endpoint_id"])
        return len(rows)

    async def forget(self, before: datetime) -> None:
        """Delete replays that ended before."""
        async with connection(self._pool) as db:
            await db.execute(_FORGET, before)


def _scope(endpoint: UUID | None) -> str:
    return _OF_APPLICATION if endpoint is None else _OF_ENDPOINT


def _arguments(wanted: Selection, message: UUID, endpoint: UUID) -> Sequence[object]:
    return [
        wanted.application_id, wanted.first, wanted.last, message, endpoint, wanted.endpoint, list(wanted.states),
    ]  # fmt: skip
