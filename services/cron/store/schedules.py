"""What the leader reads and writes. Single statements: a leader that stands still holds no lock.

The *database's* clock says what is due. A node whose own clock is wrong fires neither early nor late.

Each write of a leader names its epoch and does nothing if the lease is another's by now (`fenced`). A statement that began
just before the lease changed hands may still commit after it. That does no harm: a plan is refused unless the job's `turn`
is as it was read; a claim leaves a row `firing` under the old epoch, which the new leader takes over; and the finish of a
run that was taken over finds another epoch in its row.

Rows are found by `= ANY(array)`, not by a join: statistics of a table that was empty a minute ago say that it still is, and a
join then reads all of it once for each row of the batch (seen: 50 s instead of 3.5 s for 10,000 runs).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from services.cron.domain import Job, Plan, RunState, Target
from services.cron.leases import LEASE
from services.cron.store.connection import connect
from services.cron.store.plans import FENCED, Deposed, Planned, write_plans
from services.cron.store.rows import JOB, job_of, target_of
from services.kit.store import mapped

_FENCED = FENCED.format(epoch="$1")

_NEXT = "SELECT clock_timestamp() AS now, extract(epoch FROM min(next_at) - clock_timestamp())::float8 AS wait FROM jobs WHERE next_at IS NOT NULL"
_DUE = f"SELECT {JOB}, clock_timestamp() AS now FROM jobs j WHERE next_at <= now() ORDER BY next_at LIMIT $1"  # noqa: S608

_EXPIRE = f"""
UPDATE runs SET state = 'skipped', reason = 'deadline', finished_at = clock_timestamp()
WHERE state = 'waiting' AND attempts = 0 AND attempt_at <= now() AND deadline_at < now() AND {_FENCED}
"""  # noqa: S608

_CLAIM = f"""
WITH stale AS (
    SELECT id FROM runs WHERE state = 'firing' AND epoch < $1 AND {_FENCED}
    ORDER BY epoch LIMIT $3 FOR UPDATE SKIP LOCKED
), due AS (
    SELECT id FROM runs r
    WHERE state = 'waiting' AND attempt_at <= now() AND {_FENCED}
        AND NOT (exclusive AND EXISTS (
            SELECT FROM runs o WHERE o.job_id = r.job_id AND o.exclusive AND o.id <> r.id
                AND (o.state = 'firing' OR (o.state = 'waiting' AND o.scheduled_for < r.scheduled_for))))
    ORDER BY attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE runs r SET state = 'firing', epoch = $1, node = $2, attempts = r.attempts + 1,
        fired_at = coalesce(r.fired_at, clock_timestamp())
    WHERE r.id = ANY(array(SELECT id FROM stale UNION ALL SELECT id FROM due LIMIT $3))
    RETURNING r.id, r.job_id, r.kind, r.scheduled_for, r.attempts, r.deadline_at,
        extract(epoch FROM r.fired_at - r.due_at)::float8 AS lateness
)
SELECT t.*, j.* FROM taken t CROSS JOIN LATERAL (
    SELECT name, retries, timeout_seconds, target_url, target_topic, target_key, target_body FROM jobs WHERE id = t.job_id OFFSET 0
) j
"""  # noqa: S608

# Seconds until something waits no longer; and whether this epoch still holds.
_PAUSE = f"""
SELECT extract(epoch FROM min(attempt_at) - clock_timestamp())::float8 AS wait, {_FENCED} AS fenced
FROM runs WHERE state = 'waiting' AND attempt_at > now()
"""  # noqa: S608

# A run that would be tried again is not if its job was deleted meanwhile.
_FINISH = """
WITH f AS MATERIALIZED (
    SELECT id, reason, status, delay,
        CASE WHEN state = 'waiting' AND (SELECT deleted_at IS NOT NULL FROM jobs
                                         WHERE jobs.id = (SELECT job_id FROM runs WHERE runs.id = e.id))
             THEN 'failed' ELSE state END AS state
    FROM unnest($3::uuid[], $4::text[], $5::text[], $6::int[], $7::float8[]) AS e (id, state, reason, status, delay)
)
UPDATE runs r SET
    state = CASE WHEN f.state <> 'fired' THEN f.state
                 WHEN r.fired_at - r.due_at > make_interval(secs => $2) THEN 'late' ELSE 'fired' END,
    reason = f.reason, status = f.status,
    attempt_at = CASE f.state WHEN 'waiting' THEN clock_timestamp() + make_interval(secs => f.delay) ELSE r.attempt_at END,
    finished_at = CASE f.state WHEN 'waiting' THEN NULL ELSE clock_timestamp() END
FROM f
WHERE r.id = ANY($3::uuid[]) AND r.id = f.id AND r.state = 'firing' AND r.epoch = $1
RETURNING r.id, r.state
"""
_GAUGES = """
SELECT count(*) AS n, coalesce(extract(epoch FROM now() - min(attempt_at)), 0)::float8 AS oldest
FROM runs WHERE state = 'waiting' AND attempt_at <= now()
"""
# With the lease elsewhere (Redis) the fence is still here, where the work is.
_FENCE = """
INSERT INTO leases AS l (name, holder, node, epoch, acquired_at, renewed_at, expires_at)
VALUES ($1, $2, $3, $4, now(), now(), now())
ON CONFLICT (name) DO UPDATE SET holder = $2, node = $3, epoch = $4, acquired_at = now(), renewed_at = now(), expires_at = now()
    WHERE l.epoch < $4
RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Due:
    """Jobs that are due by the database's clock, which says `now`; if none, `wait` is the seconds until one is."""

    now: datetime
    jobs: tuple[Job, ...]
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A run whose intention to fire is committed under our epoch. `lateness`: seconds from due to the first claim.

    `deadline_at`: after it the run is worth nothing (the job's misfire deadline).
    """

    id: UUID
    job_id: UUID
    kind: str
    scheduled_for: datetime
    attempt: int
    lateness: float
    job_name: str
    retries: int
    timeout_seconds: int
    target: Target
    deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """What becomes of a claimed run: fired, failed, or waiting for `delay` seconds before another try."""

    id: UUID
    state: RunState
    reason: str | None
    status: int | None
    delay: float = 0.0


class Schedules:
    """Three connections, one for each loop of the leader, which end with its term. Raises StoreUnavailable, Deposed."""

    def __init__(
        self,
        planning: asyncpg.Connection[asyncpg.Record],
        claiming: asyncpg.Connection[asyncpg.Record],
        finishing: asyncpg.Connection[asyncpg.Record],
        epoch: int,
    ) -> None:
        self._planning = planning
        self._claiming = claiming
        self._finishing = finishing
        self._epoch = epoch

    async def fence(self, holder: str, node: str) -> bool:
        """Make this epoch the one that holds here. False if it is not greater than the last."""
        with mapped():
            return bool(await self._planning.fetchval(_FENCE, LEASE, holder, node, self._epoch))

    async def due(self, limit: int) -> Due:
        """Read only: nothing is locked until `plan`."""
        with mapped():
            rows = await self._planning.fetch(_DUE, limit)
            if rows:
                return Due(rows[0]["now"], tuple(job_of(row) for row in rows))
            row = await self._planning.fetchrow(_NEXT)
        assert row is not None
        return Due(row["now"], (), row["wait"])

    async def plan(self, plans: Sequence[Plan]) -> Planned:
        """Write all instants of the plans, and move their jobs on; a job that changed meanwhile is left for another time."""
        with mapped():
            return await write_plans(self._planning, plans, self._epoch)

    async def claim(self, node: str, limit: int) -> list[Claim]:
        """Take up runs: first those that an earlier epoch left `firing`, then those that are due."""
        with mapped():
            await self._claiming.execute(_EXPIRE, self._epoch)
            rows = await self._claiming.fetch(_CLAIM, self._epoch, node, limit)
        return [
            Claim(
                row["id"],
                row["job_id"],
                row["kind"],
                row["scheduled_for"],
                row["attempts"],
                row["lateness"],
                row["name"],
                row["retries"],
                row["timeout_seconds"],
                target_of(row),
                row["deadline_at"],
            )
            for row in rows
        ]

    async def pause(self) -> float | None:
        """Seconds until the next run that waits may begin. Raises Deposed."""
        with mapped():
            row = await self._claiming.fetchrow(_PAUSE, self._epoch)
        assert row is not None
        if not row["fenced"]:
            raise Deposed
        wait: float | None = row["wait"]
        return wait

    async def finish(self, ends: Sequence[Finish], grace_seconds: float) -> dict[UUID, str]:
        """The state of each run that was still ours."""
        columns = zip(*((e.id, e.state.value, e.reason, e.status, e.delay) for e in ends), strict=True)
        with mapped():
            rows = await self._finishing.fetch(_FINISH, self._epoch, grace_seconds, *map(list, columns))
        return {row["id"]: row["state"] for row in rows}

    async def backlog(self) -> tuple[int, float]:
        """Runs that are due and wait for a slot; seconds for which the oldest has."""
        with mapped():
            row = await self._planning.fetchrow(_GAUGES)
        assert row is not None
        return row["n"], row["oldest"]


@asynccontextmanager
async def open_schedules(url: str, epoch: int) -> AsyncIterator[Schedules]:
    """Connect, at once rather than one by one: a new leader's jobs wait for it. Raises StoreUnavailable."""
    opened: list[asyncpg.Connection[asyncpg.Record]] = []

    async def dial() -> None:
        opened.append(await connect(url, "cron-scheduler"))

    try:
        ended = await asyncio.gather(dial(), dial(), dial(), return_exceptions=True)
        for failure in filter(None, ended):
            raise failure
        yield Schedules(opened[0], opened[1], opened[2], epoch)
    finally:
        for one in opened:
            one.terminate()
