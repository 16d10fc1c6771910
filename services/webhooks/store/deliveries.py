"""Deliveries as a queue: which endpoints have due work, claims with a lease, outcomes in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

from services.kit import ids, postgres
from services.kit.store import Connection, Pool, connection
from services.patterns.idempotency import fingerprint
from services.webhooks.domain import ENDPOINT_DISABLED_EVENT
from services.webhooks.store.messages import NewMessage, fan_out

# Jumps from endpoint to endpoint along the index (a loose index scan): one probe an endpoint, however long its queue.
_READY = """
WITH RECURSIVE lane (endpoint_id, due) AS (
    (SELECT endpoint_id, next_attempt_at FROM deliveries WHERE state = 'scheduled'
     ORDER BY endpoint_id, next_attempt_at LIMIT 1)
    UNION ALL
    SELECT following.endpoint_id, following.next_attempt_at
    FROM lane CROSS JOIN LATERAL (
        SELECT endpoint_id, next_attempt_at FROM deliveries WHERE state = 'scheduled' AND endpoint_id > lane.endpoint_id
        ORDER BY endpoint_id, next_attempt_at LIMIT 1) following
)
SELECT lane.endpoint_id, coalesce(e.enabled, false) AS enabled, e.rate_per_second, e.max_in_flight,
       e.failing_since IS NOT NULL AS failing
FROM lane LEFT JOIN LATERAL (SELECT * FROM endpoints WHERE id = lane.endpoint_id LIMIT 1) e ON true
WHERE lane.due <= now() OR NOT coalesce(e.enabled, false)
"""

# The bound is per endpoint, inside the claim: rows of one that hangs can't fill a batch.
CLAIM = """
WITH picked AS MATERIALIZED (
    SELECT due.id
    FROM unnest($1::uuid[], $2::integer[]) AS lane (endpoint_id, free)
    CROSS JOIN LATERAL (
        SELECT d.id FROM deliveries d
        WHERE d.endpoint_id = lane.endpoint_id AND d.state = 'scheduled' AND d.next_attempt_at <= now()
        ORDER BY d.next_attempt_at LIMIT lane.free FOR UPDATE SKIP LOCKED) due
), claimed AS (
    UPDATE deliveries d
    SET state = 'in_flight', next_attempt_at = NULL, attempt_id = uuid7(), claimed_at = now(),
        claimed_until = now() + $3 * interval '1 second', updated_at = now()
    WHERE d.id = ANY(ARRAY(SELECT id FROM picked))
    RETURNING d.id, d.attempt_id, d.message_id, d.endpoint_id, d.application_id, d.attempts, d.step, d.exhausted
)
SELECT c.id, c.attempt_id, c.message_id, c.endpoint_id, c.application_id, c.attempts, c.step, c.exhausted,
       m.event_id, m.event_type, m.payload, m.operational, m.traceparent, m.created_at,
       e.url, e.secrets, e.failing_since
FROM claimed c
CROSS JOIN LATERAL (SELECT * FROM messages WHERE id = c.message_id LIMIT 1) m
CROSS JOIN LATERAL (SELECT * FROM endpoints WHERE id = c.endpoint_id LIMIT 1) e
"""

# A claim that was taken back in between keeps its attempt_id until the next claim, so a late outcome still counts.
FINISH = """
WITH ended AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::timestamptz[], $6::timestamptz[], $7::text[],
                         $8::integer[], $9::text[], $10::bytea[], $11::text[], $12::integer[], $13::float8[], $14::text[])
        AS t (delivery_id, attempt_id, endpoint_id, number, started_at, finished_at, outcome, status, error, body,
              state, step, delay, dead_reason)
), moved AS (
    UPDATE deliveries d
    SET state = t.state, attempts = d.attempts + (d.state = 'in_flight')::integer, step = t.step,
        next_attempt_at = now() + t.delay * interval '1 second', dead_reason = t.dead_reason,
        exhausted = d.exhausted OR t.dead_reason IS NOT DISTINCT FROM 'exhausted',
        claimed_until = NULL, updated_at = now()
    FROM ended t
    WHERE d.id = ANY($1::uuid[]) AND d.id = t.delivery_id AND d.attempt_id = t.attempt_id AND d.state IN ('in_flight', 'scheduled')
    RETURNING d.id
), logged AS (
    INSERT INTO attempts (id, delivery_id, endpoint_id, number, started_at, finished_at, outcome, status, error, response_body)
    SELECT attempt_id, delivery_id, endpoint_id, number, started_at, finished_at, outcome, status, error, body FROM ended
    ON CONFLICT (id) DO UPDATE SET finished_at = excluded.finished_at, outcome = excluded.outcome, status = excluded.status,
                                   error = excluded.error, response_body = excluded.response_body
)
SELECT id FROM moved
"""

_TAKE_BACK = """
WITH lost AS MATERIALIZED (
    SELECT id FROM deliveries WHERE state = 'in_flight' AND claimed_until < now()
    ORDER BY claimed_until LIMIT $1 FOR UPDATE SKIP LOCKED
), back AS (
    UPDATE deliveries d SET state = 'scheduled', next_attempt_at = now(), attempts = d.attempts + 1, claimed_until = NULL,
                            updated_at = now()
    WHERE d.id = ANY(ARRAY(SELECT id FROM lost))
    RETURNING d.id, d.attempt_id, d.endpoint_id, d.attempts, d.claimed_at
)
INSERT INTO attempts (id, delivery_id, endpoint_id, number, started_at, outcome, error)
SELECT attempt_id, id, endpoint_id, attempts, claimed_at, 'interrupted', 'the dispatcher did not tell how it ended' FROM back
ON CONFLICT (id) DO NOTHING
"""

_BURY = """
WITH buried AS MATERIALIZED (
    SELECT d.id, e.deleted_at IS NULL AS here
    FROM deliveries d CROSS JOIN LATERAL (SELECT * FROM endpoints WHERE id = d.endpoint_id LIMIT 1) e
    WHERE d.endpoint_id = ANY($1::uuid[]) AND d.state = 'scheduled' AND NOT e.enabled
    LIMIT $2 FOR UPDATE OF d SKIP LOCKED
)
UPDATE deliveries d
SET state = 'dead', next_attempt_at = NULL, updated_at = now(),
    dead_reason = CASE WHEN buried.here THEN 'endpoint_disabled' ELSE 'endpoint_deleted' END
FROM buried WHERE d.id = ANY(ARRAY(SELECT id FROM buried)) AND d.id = buried.id
"""

_FAILING = "UPDATE endpoints SET failing_since = now() WHERE id = ANY($1::uuid[]) AND failing_since IS NULL"
_WELL = "UPDATE endpoints SET failing_since = NULL WHERE id = ANY($1::uuid[]) AND failing_since IS NOT NULL"
# One that was well since its failing attempt was claimed (`_WELL`, before this) goes on.
_DISABLE = """
UPDATE endpoints e SET enabled = false, disabled_reason = t.reason, disabled_at = now(), updated_at = now()
FROM (SELECT DISTINCT ON (id) id, reason FROM unnest($1::uuid[], $2::text[]) AS t (id, reason) ORDER BY id, reason) t
WHERE e.id = t.id AND e.enabled AND (t.reason <> 'failing' OR e.failing_since IS NOT NULL)
RETURNING e.id, e.application_id, e.disabled_reason, e.disabled_at, e.failing_since
"""
_OUTBOX = """
INSERT INTO outbox (event_id, type, application_id, body, traceparent)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[])
"""
_WANTED = """
SELECT DISTINCT s.application_id, s.event_type
FROM unnest($1::text[], $2::text[]) AS t (application_id, event_type)
JOIN subscriptions s ON s.application_id = t.application_id AND s.event_type = t.event_type
"""


@dataclass(frozen=True, slots=True)
class Ready:
    """An endpoint with due work, and its owner's bounds. Not enabled: its work is to be buried."""

    endpoint_id: UUID
    enabled: bool
    rate_per_second: int | None
    max_in_flight: int | None
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is this process's to attempt, until its lease ends, and all that an attempt needs."""

    delivery_id: UUID
    attempt_id: UUID
    message_id: UUID
    endpoint_id: UUID
    application_id: str
    attempts: int
    step: int
    exhausted: bool
    event_id: str
    event_type: str
    payload: bytes
    operational: bool
    traceparent: str | None
    created_at: datetime
    url: str
    secrets: bytes
    failing_since: datetime | None


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt's line in the log, and what becomes of its delivery."""

    claim: Claim
    started_at: datetime
    finished_at: datetime
    outcome: str
    status: int | None
    error: str | None
    body: bytes
    state: str
    step: int
    delay: float | None
    dead_reason: str | None


@dataclass(frozen=True, slots=True)
class OperationalEvent:
    """To Kafka by the outbox, and to the application's endpoints that name its type."""

    type: str
    application_id: str
    body: bytes
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a batch of outcomes means for endpoints and their owners. Mostly nothing."""

    well: frozenset[UUID] = frozenset()
    failing: frozenset[UUID] = frozenset()
    disable: Mapping[UUID, str] = field(default_factory=dict)
    events: Mapping[UUID, OperationalEvent] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.well or self.failing or self.disable or self.events)


class DeliveryStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ready(self) -> list[Ready]:
        """Endpoints with work that is due, or that is theirs no more."""
        async with connection(self._pool) as db:
            return [Ready(*row) for row in await db.fetch(_READY)]

    async def claim(self, lanes: Mapping[UUID, int], lease_seconds: float) -> list[Claim]:
        """Up to so many due deliveries of each endpoint, the longest due first."""
        async with connection(self._pool) as db:
            return [Claim(*row) for row in await db.fetch(CLAIM, list(lanes), list(lanes.values()), lease_seconds)]

    async def finish(self, batch: Sequence[Ended], aftermath: Aftermath) -> set[UUID]:
        """Log the attempts and move their deliveries, in one commit; the deliveries that were still this process's to move.

        `aftermath.events` are keyed by delivery and told only of those.
        """
        async with connection(self._pool) as db:
            if not aftermath:
                return await _finish(db, batch)
            async with db.transaction():
                moved = await _finish(db, batch)
                await _settle(db, aftermath, moved)
            return moved

    async def take_back(self, limit: int) -> int:
        """Schedule again, at once, what was claimed and never finished; its attempt is in the log as interrupted."""
        async with connection(self._pool) as db:
            return _count(await db.execute(_TAKE_BACK, limit))

    async def bury(self, endpoints: Sequence[UUID], limit: int) -> int:
        """Make the waiting deliveries of endpoints that are switched off dead; return how many."""
        async with connection(self._pool) as db:
            return _count(await db.execute(_BURY, endpoints, limit))

    async def answers(self) -> bool:
        """Readiness."""
        return await postgres.answers(self._pool)


async def _finish(db: Connection, batch: Sequence[Ended]) -> set[UUID]:
    rows = await db.fetch(
        FINISH,
        [each.claim.delivery_id for each in batch],
        [each.claim.attempt_id for each in batch],
        [each.claim.endpoint_id for each in batch],
        [each.claim.attempts + 1 for each in batch],
        [each.started_at for each in batch],
        [each.finished_at for each in batch],
        [each.outcome for each in batch],
        [each.status for each in batch],
        [each.error for each in batch],
        [each.body for each in batch],
        [each.state for each in batch],
        [each.step for each in batch],
        [each.delay for each in batch],
        [each.dead_reason for each in batch],
    )
    return {row["id"] for row in rows}


async def _settle(db: Connection, aftermath: Aftermath, moved: set[UUID]) -> None:
    if aftermath.failing:
        await db.execute(_FAILING, sorted(aftermath.failing))
    if aftermath.well:
        await db.execute(_WELL, sorted(aftermath.well))
    events = [event for delivery, event in aftermath.events.items() if delivery in moved]
    if aftermath.disable:
        rows = await db.fetch(_DISABLE, list(aftermath.disable), list(aftermath.disable.values()))
        events += [
            OperationalEvent(
                ENDPOINT_DISABLED_EVENT,
                row["application_id"],
                msgspec.json.encode(
                    {
                        "endpoint_id": ids.encode("ep", row["id"]),
                        "reason": row["disabled_reason"],
                        "disabled_at": row["disabled_at"],
                        "failing_since": row["failing_since"],
                    }
                ),
            )
            for row in rows
        ]
    if events:
        await emit(db, events)


async def emit(db: Connection, events: Sequence[OperationalEvent]) -> None:
    """Into the outbox and, as messages, to the endpoints that ask for them; in the caller's transaction."""
    names = [ids.uuid7() for _ in events]
    await db.execute(
        _OUTBOX,
        names,
        [each.type for each in events],
        [each.application_id for each in events],
        [each.body for each in events],
        [each.traceparent for each in events],
    )
    rows = await db.fetch(_WANTED, [each.application_id for each in events], [each.type for each in events])
    wanted = {(row["application_id"], row["event_type"]) for row in rows}
    messages = [
        NewMessage(
            ids.uuid7(),
            each.application_id,
            ids.encode("evt", name),
            each.type,
            each.body,
            fingerprint(each.type, each.body),
            each.traceparent,
            operational=True,
        )
        for name, each in zip(names, events, strict=True)
        if (each.application_id, each.type) in wanted
    ]
    if messages:
        await fan_out(db, messages, 0.0)


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
