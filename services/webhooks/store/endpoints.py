"""Applications, event types and endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from services.kit import postgres
from services.kit.store import Connection, Pool, connection

_OF_KEY = "SELECT application_id FROM api_keys WHERE key_sha256 = $1 AND revoked_at IS NULL"
_OF_MERCHANTS = "SELECT merchant_id, id FROM applications WHERE merchant_id = ANY($1::text[])"

_PUT_TYPE = """
INSERT INTO event_types (application_id, name, description, schema) VALUES ($1, $2, $3, $4)
ON CONFLICT (application_id, name) DO UPDATE SET description = excluded.description, schema = excluded.schema, updated_at = now()
RETURNING name, description, schema, created_at, updated_at
"""
_TYPES = """
SELECT name, description, schema, created_at, updated_at FROM event_types
WHERE application_id = $1 AND name > $2 ORDER BY name LIMIT $3
"""
_SCHEMA = "SELECT schema FROM event_types WHERE application_id = $1 AND name = $2"

_COLUMNS = """
id, application_id, url, description, event_types, secrets, rate_per_second, max_in_flight, enabled, disabled_reason,
disabled_at, failing_since, created_at, updated_at
"""
_LOCK_APPLICATION = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_INSERT = f"""
WITH made AS (
    INSERT INTO endpoints (id, application_id, url, description, event_types, secrets, rate_per_second, max_in_flight)
    SELECT $1, $2, $3, $4, $5::text[], $6, $7::integer, $8::integer
    WHERE (SELECT count(*) FROM endpoints WHERE application_id = $2 AND deleted_at IS NULL) < $9::bigint
    RETURNING {_COLUMNS}
), subscribed AS (
    INSERT INTO subscriptions (application_id, event_type, endpoint_id)
    SELECT made.application_id, unnest($10::text[]), made.id FROM made
)
SELECT * FROM made
"""  # noqa: S608  # a constant
_ONE = f"SELECT {_COLUMNS} FROM endpoints WHERE id = $1 AND application_id = $2 AND deleted_at IS NULL"  # noqa: S608
_MANY = f"""
SELECT {_COLUMNS} FROM endpoints
WHERE application_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3
"""  # noqa: S608
_UPDATE = f"""
UPDATE endpoints
SET url = $3, description = $4, event_types = $5, rate_per_second = $6, max_in_flight = $7, enabled = coalesce($8, enabled),
    disabled_reason = CASE WHEN coalesce($8, enabled) THEN NULL ELSE coalesce(disabled_reason, 'owner') END,
    disabled_at = CASE WHEN coalesce($8, enabled) THEN NULL ELSE coalesce(disabled_at, now()) END,
    failing_since = CASE WHEN $8 AND NOT enabled THEN NULL ELSE failing_since END,
    updated_at = now()
WHERE id = $1 AND application_id = $2 AND deleted_at IS NULL RETURNING {_COLUMNS}
"""  # noqa: S608
_SECRETS = f"""
UPDATE endpoints SET secrets = $3, updated_at = now()
WHERE id = $1 AND application_id = $2 AND secrets = $4 AND deleted_at IS NULL RETURNING {_COLUMNS}
"""  # noqa: S608
_DELETE = """
UPDATE endpoints SET enabled = false, disabled_reason = coalesce(disabled_reason, 'owner'),
                     disabled_at = coalesce(disabled_at, now()), deleted_at = now(), updated_at = now()
WHERE id = $1 AND application_id = $2 AND deleted_at IS NULL
"""
_SUBSCRIBE = "INSERT INTO subscriptions (application_id, event_type, endpoint_id) SELECT $1, unnest($2::text[]), $3"
_UNSUBSCRIBE = "DELETE FROM subscriptions WHERE endpoint_id = $1"

_PAGE_ATTEMPTS = """
SELECT a.id, m.id AS message_id, m.event_id, m.event_type, a.number, a.started_at, a.finished_at, a.outcome, a.status, a.error,
       d.state, d.next_attempt_at, d.dead_reason
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN messages m ON m.id = d.message_id
WHERE a.endpoint_id = $1 ORDER BY a.id DESC LIMIT $2
"""
_PAGE_WAITING = """
SELECT m.id AS message_id, m.event_id, m.event_type, d.attempts, d.next_attempt_at
FROM deliveries d JOIN messages m ON m.id = d.message_id
WHERE d.endpoint_id = $1 AND d.state = 'scheduled' ORDER BY d.next_attempt_at LIMIT $2
"""


class TooManyEndpoints(Exception):
    """The application has as many as it may."""


@dataclass(frozen=True, slots=True)
class EventType:
    """`schema` is JSON Schema, or None: payloads of this type are not checked."""

    name: str
    description: str | None
    schema: bytes | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`secrets` is sealed; `event_types` None means all but the operational ones."""

    id: UUID
    application_id: str
    url: str
    description: str | None
    event_types: list[str] | None
    secrets: bytes
    rate_per_second: int | None
    max_in_flight: int | None
    enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PageAttempt:
    """A line of an endpoint's page."""

    id: UUID
    message_id: UUID
    event_id: str
    event_type: str
    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    status: int | None
    error: str | None
    state: str
    next_attempt_at: datetime | None
    dead_reason: str | None


@dataclass(frozen=True, slots=True)
class PageWaiting:
    """What an endpoint will be sent next."""

    message_id: UUID
    event_id: str
    event_type: str
    attempts: int
    next_attempt_at: datetime


class EndpointStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def application_of(self, key_sha256: bytes) -> str | None:
        """Whose key this is, if it is in force."""
        async with connection(self._pool) as db:
            found: str | None = await db.fetchval(_OF_KEY, key_sha256)
        return found

    async def applications_of(self, merchants: Sequence[str]) -> dict[str, list[str]]:
        """The applications of each of these merchants."""
        found: dict[str, list[str]] = {}
        async with connection(self._pool) as db:
            for row in await db.fetch(_OF_MERCHANTS, merchants):
                found.setdefault(row["merchant_id"], []).append(row["id"])
        return found

    async def put_event_type(
        self, application_id: str, name: str, description: str | None, schema: bytes | None
    ) -> EventType:
        """Create or replace."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_PUT_TYPE, application_id, name, description, schema)
        assert row is not None
        return EventType(*row)

    async def event_types(self, application_id: str, after: str, limit: int) -> list[EventType]:
        """By name."""
        async with connection(self._pool) as db:
            return [EventType(*row) for row in await db.fetch(_TYPES, application_id, after, limit)]

    async def schema(self, application_id: str, event_type: str) -> bytes | None:
        """The type's JSON Schema."""
        async with connection(self._pool) as db:
            found: bytes | None = await db.fetchval(_SCHEMA, application_id, event_type)
        return found

    async def create(self, new: Endpoint, limit: int) -> Endpoint:
        """Raises TooManyEndpoints beyond `limit` of one application."""
        async with connection(self._pool) as db, db.transaction():
            # A statement of its own: the next one counts what was committed by those that had the lock before.
            await db.execute(_LOCK_APPLICATION, new.application_id)
            row = await db.fetchrow(
                _INSERT, new.id, new.application_id, new.url, new.description, new.event_types, new.secrets,
                new.rate_per_second, new.max_in_flight, limit, _wanted_types(new),
            )  # fmt: skip
            if row is None:
                raise TooManyEndpoints
        return _endpoint(row)

    async def get(self, application_id: str, endpoint_id: UUID) -> Endpoint | None:
        """An endpoint of this application."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_ONE, endpoint_id, application_id)
        return None if row is None else _endpoint(row)

    async def many(self, application_id: str, after: UUID | None, limit: int) -> list[Endpoint]:
        """The oldest first."""
        async with connection(self._pool) as db:
            return [_endpoint(row) for row in await db.fetch(_MANY, application_id, after, limit)]

    async def update(self, new: Endpoint, *, enabled: bool | None) -> Endpoint | None:
        """Replace what its owner decides. `enabled` None: as it is now, which a dispatcher may have decided meanwhile."""
        async with connection(self._pool) as db, db.transaction():
            row = await db.fetchrow(
                _UPDATE, new.id, new.application_id, new.url, new.description, new.event_types, new.rate_per_second,
                new.max_in_flight, enabled,
            )  # fmt: skip
            if row is None:
                return None
            await db.execute(_UNSUBSCRIBE, new.id)
            await _subscribe(db, new)
        return _endpoint(row)

    async def replace_secrets(self, seen: Endpoint, sealed: bytes) -> Endpoint | None:
        """After a rotation. None if another one came first."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_SECRETS, seen.id, seen.application_id, sealed, seen.secrets)
        return None if row is None else _endpoint(row)

    async def delete(self, application_id: str, endpoint_id: UUID) -> bool:
        """Its log stays until it is too old; what still waits becomes dead. False if there is none."""
        async with connection(self._pool) as db, db.transaction():
            gone = (await db.execute(_DELETE, endpoint_id, application_id)) != "UPDATE 0"
            if gone:
                await db.execute(_UNSUBSCRIBE, endpoint_id)
        return gone

    async def page(self, endpoint_id: UUID, limit: int) -> tuple[list[PageAttempt], list[PageWaiting]]:
        """The newest attempts, and what waits."""
        async with connection(self._pool) as db:
            attempts = [PageAttempt(*row) for row in await db.fetch(_PAGE_ATTEMPTS, endpoint_id, limit)]
            waiting = [PageWaiting(*row) for row in await db.fetch(_PAGE_WAITING, endpoint_id, limit)]
        return attempts, waiting

    async def answers(self) -> bool:
        """Readiness."""
        return await postgres.answers(self._pool)


async def _subscribe(db: Connection, endpoint: Endpoint) -> None:
    await db.execute(_SUBSCRIBE, endpoint.application_id, _wanted_types(endpoint), endpoint.id)


def _wanted_types(endpoint: Endpoint) -> list[str]:
    return ["*"] if endpoint.event_types is None else sorted(set(endpoint.event_types))


def _endpoint(row: asyncpg.Record | None) -> Endpoint:
    assert row is not None
    return Endpoint(*row)
