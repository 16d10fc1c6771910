"""Jobs, as the API sees them. Every statement names the tenant, so that none reaches over the wall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from services.cron.domain import HttpTarget, Job, Plan
from services.cron.schedule import CronSchedule, IntervalSchedule, Schedule
from services.cron.store.plans import write_plans
from services.cron.store.rows import JOB, job_of
from services.kit import postgres
from services.kit.store import Pool, connection

_TENANT_OF = "SELECT tenant_id FROM api_keys WHERE key_sha256 = $1 AND revoked_at IS NULL"
_INSERT = """
INSERT INTO jobs (id, tenant_id, name, cron, zone, every_seconds, anchor, target_url, target_topic, target_key, target_body,
                  misfire_policy, misfire_cap, misfire_deadline_seconds, concurrency, jitter_seconds, retries,
                  timeout_seconds, enabled, next_at, created_at, updated_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $21
WHERE (SELECT count(*) FROM jobs WHERE tenant_id = $2 AND deleted_at IS NULL) < $22
ON CONFLICT (tenant_id, name) WHERE deleted_at IS NULL DO NOTHING
RETURNING id
"""
_INSERT_KEY = """
INSERT INTO idempotency_keys AS old (tenant_id, key, fingerprint, job_id, response_body, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + $6::interval)
ON CONFLICT (tenant_id, key) DO UPDATE
    SET fingerprint = $3, job_id = $4, response_body = $5, expires_at = now() + $6::interval WHERE old.expires_at <= now()
RETURNING true
"""
_KEY = """
SELECT job_id, fingerprint, response_body FROM idempotency_keys WHERE tenant_id = $1 AND key = $2 AND expires_at > now()
"""
_SWEEP_KEYS = """
DELETE FROM idempotency_keys WHERE (tenant_id, key) IN
    (SELECT tenant_id, key FROM idempotency_keys WHERE expires_at <= now() ORDER BY expires_at LIMIT $1
     FOR UPDATE SKIP LOCKED)
"""
_NAMED = "SELECT id FROM jobs WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL"
_GET = f"SELECT {JOB} FROM jobs j WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"  # noqa: S608
_LIST = f"""
SELECT {JOB} FROM jobs j WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""  # noqa: S608
_UPDATE = """
UPDATE jobs SET name = $4, cron = $5, zone = $6, every_seconds = $7, anchor = $8, target_url = $9, target_topic = $10,
    target_key = $11, target_body = $12, misfire_policy = $13, misfire_cap = $14, misfire_deadline_seconds = $15,
    concurrency = $16, jitter_seconds = $17, retries = $18, timeout_seconds = $19, enabled = $20, next_at = $21,
    updated_at = $22, version = version + 1, turn = turn + 1
WHERE tenant_id = $1 AND id = $2 AND turn = $3 AND deleted_at IS NULL
RETURNING id
"""
_DELETE = """
WITH gone AS (
    UPDATE jobs SET deleted_at = now(), next_at = NULL, turn = turn + 1, version = version + 1
    WHERE tenant_id = $1 AND id = $2 AND turn = $3 AND deleted_at IS NULL RETURNING id
), dropped AS (
    UPDATE runs r SET state = 'skipped', reason = 'deleted', finished_at = clock_timestamp() FROM gone
    WHERE r.job_id = gone.id AND r.state = 'waiting'
)
SELECT id FROM gone
"""

_RUN = """r.id, r.job_id, r.kind, r.scheduled_for, r.due_at, r.state, r.reason, r.covers, r.epoch, r.node, r.attempts, r.status,
    r.created_at, r.fired_at, r.finished_at"""
_RUNS = f"""
SELECT {_RUN} FROM runs r JOIN jobs j ON j.id = r.job_id
WHERE j.tenant_id = $1 AND j.id = $2 AND j.deleted_at IS NULL AND ($3::timestamptz IS NULL OR r.scheduled_for < $3)
    AND ($4::text IS NULL OR r.state = $4)
ORDER BY r.scheduled_for DESC LIMIT $5
"""  # noqa: S608
_MANUAL = f"""
WITH j AS (
    SELECT id, concurrency FROM jobs WHERE tenant_id = $1 AND id = $2 AND turn = $3 AND deleted_at IS NULL FOR UPDATE
), turned AS (
    UPDATE jobs SET turn = turn + 1 FROM j WHERE jobs.id = j.id RETURNING jobs.id
), replaced AS (
    UPDATE runs o SET state = CASE o.state WHEN 'firing' THEN 'failed' ELSE 'skipped' END, reason = 'replaced',
        finished_at = clock_timestamp()
    FROM j WHERE j.concurrency = 'replace' AND o.job_id = j.id AND o.state IN ('waiting', 'firing')
)
INSERT INTO runs AS r (id, job_id, kind, scheduled_for, due_at, attempt_at, state, exclusive, idempotency_key)
SELECT $4, j.id, 'manual', now(), now(), now(), 'waiting', j.concurrency <> 'allow', $5 FROM j JOIN turned USING (id)
RETURNING {_RUN}
"""  # noqa: S608
_BY_KEY = f"SELECT {_RUN} FROM runs r WHERE r.job_id = $1 AND r.idempotency_key = $2"  # noqa: S608
_ACTIVE = "SELECT count(*) FROM (SELECT FROM runs WHERE job_id = $1 AND state IN ('waiting', 'firing') LIMIT $2) live"
_SWEEP_RUNS = """
DELETE FROM runs WHERE id IN (
    SELECT id FROM runs WHERE id < $1 AND finished_at IS NOT NULL ORDER BY id LIMIT $2)
"""
_SWEEP_JOBS = """
DELETE FROM jobs WHERE id IN (
    SELECT id FROM jobs j WHERE deleted_at < $1 AND NOT EXISTS (SELECT FROM runs r WHERE r.job_id = j.id) LIMIT $2)
"""


class NameTaken(Exception):
    """The tenant has a job of this name."""

    def __init__(self, job: UUID) -> None:
        super().__init__("name in use")
        self.job = job


class TooManyJobs(Exception):
    """The tenant has as many as it may."""


class KeyTaken(Exception):
    """A request has been answered under this key."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """An idempotency key, stored with the job that its request makes and with the answer."""

    key: str
    fingerprint: bytes
    response: bytes
    kept: timedelta


@dataclass(frozen=True, slots=True)
class Answered:
    """What a key that has not expired stands for."""

    job: UUID
    fingerprint: bytes
    response: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A row of the audit, as it is told outside."""

    id: UUID
    job_id: UUID
    kind: str
    scheduled_for: datetime
    due_at: datetime
    state: str
    reason: str | None
    covers: int
    epoch: int | None
    node: str | None
    attempts: int
    status: int | None
    created_at: datetime
    fired_at: datetime | None
    finished_at: datetime | None


class JobStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def answers(self) -> bool:
        """One round trip."""
        return await postgres.answers(self._pool)

    async def now(self) -> datetime:
        """The database's time, by which everything is judged."""
        async with connection(self._pool) as db:
            found: datetime = await db.fetchval("SELECT clock_timestamp()")
            return found

    async def tenant_of(self, digest: bytes) -> str | None:
        """Whose API key this is."""
        async with connection(self._pool) as db:
            tenant: str | None = await db.fetchval(_TENANT_OF, digest)
            return tenant

    async def add(self, job: Job, most: int, key: NewKey | None) -> None:
        """Store the job, and the key with its answer in the same commit. Raises KeyTaken, NameTaken, TooManyJobs."""
        async with connection(self._pool) as db, db.transaction():
            if key is not None and not await db.fetchval(
                _INSERT_KEY, job.tenant_id, key.key, key.fingerprint, job.id, key.response, key.kept
            ):
                raise KeyTaken
            if await db.fetchval(_INSERT, job.id, job.tenant_id, *_columns(job), job.created_at, most):
                return
            taken = await db.fetchval(_NAMED, job.tenant_id, job.name)
            raise TooManyJobs if taken is None else NameTaken(taken)

    async def answered(self, tenant: str, key: str) -> Answered | None:
        """What was answered under this key, unless it has expired."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_KEY, tenant, key)
        return None if row is None else Answered(*row)

    async def get(self, tenant: str, job: UUID) -> Job | None:
        """The job if it is this tenant's."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_GET, tenant, job)
        return None if row is None else job_of(row)

    async def page(self, tenant: str, before: UUID | None, limit: int) -> list[Job]:
        """The newest first."""
        async with connection(self._pool) as db:
            return [job_of(row) for row in await db.fetch(_LIST, tenant, before, limit)]

    async def change(self, job: Job, now: datetime) -> bool:
        """Store it as it is now, if nobody has touched it since it was read (`turn`). Raises NameTaken."""
        async with connection(self._pool) as db:
            try:
                return bool(await db.fetchval(_UPDATE, job.tenant_id, job.id, job.turn, *_columns(job), now))
            except asyncpg.UniqueViolationError:
                taken = await db.fetchval(_NAMED, job.tenant_id, job.name)
        raise NameTaken(taken or job.id)

    async def account(self, plan: Plan) -> None:
        """Write a row for each instant of the plan, as the leader would; nothing if somebody was faster."""
        async with connection(self._pool) as db:
            await write_plans(db, [plan], None)

    async def delete(self, job: Job) -> bool:
        """Runs that wait are skipped. False if somebody has touched the job since it was read."""
        async with connection(self._pool) as db:
            return bool(await db.fetchval(_DELETE, job.tenant_id, job.id, job.turn))

    async def runs(self, tenant: str, job: UUID, before: datetime | None, state: str | None, limit: int) -> list[Run]:
        """The newest first."""
        async with connection(self._pool) as db:
            return [Run(*row) for row in await db.fetch(_RUNS, tenant, job, before, state, limit)]

    async def run_by_key(self, job: UUID, key: str) -> Run | None:
        """The manual run that this key stands for."""
        async with connection(self._pool) as db:
            row = await db.fetchrow(_BY_KEY, job, key)
        return None if row is None else Run(*row)

    async def active(self, job: UUID, most: int) -> int:
        """Runs that wait or are fired, counted up to `most`."""
        async with connection(self._pool) as db:
            return int(await db.fetchval(_ACTIVE, job, most))

    async def run_now(self, job: Job, run: UUID, key: str) -> Run | None:
        """Add a manual run. None if somebody has touched the job since it was read, or has used the key."""
        async with connection(self._pool) as db:
            try:
                row = await db.fetchrow(_MANUAL, job.tenant_id, job.id, job.turn, run, key)
            except asyncpg.UniqueViolationError:
                return None
        return None if row is None else Run(*row)

    async def sweep(self, before: UUID, kept: timedelta, limit: int) -> int:
        """Forget finished runs whose id (its time) is below `before`, deleted jobs without runs, and expired keys.

        Return how many.
        """
        async with connection(self._pool) as db:
            runs = await db.execute(_SWEEP_RUNS, before, limit)
            jobs = await db.execute(_SWEEP_JOBS, await db.fetchval("SELECT now() - $1::interval", kept), limit)
            keys = await db.execute(_SWEEP_KEYS, limit)
        return max(_count(runs), _count(jobs), _count(keys))


def _count(command: str) -> int:
    return int(command.rpartition(" ")[2])


def _columns(job: Job) -> Sequence[Any]:
    cron, interval = (job.schedule, None) if isinstance(job.schedule, CronSchedule) else (None, _interval(job.schedule))
    http, kafka = (job.target, None) if isinstance(job.target, HttpTarget) else (None, job.target)
    return (
        job.name,
        cron.expression if cron else None,
        cron.zone if cron else None,
        interval.seconds if interval else None,
        interval.anchor if interval else None,
        http.url if http else None,
        kafka.topic if kafka else None,
        kafka.key if kafka else None,
        job.target.body,
        job.misfire.policy.value,
        job.misfire.cap,
        job.misfire.deadline_seconds,
        job.concurrency.value,
        job.jitter_seconds,
        job.retries,
        job.timeout_seconds,
        job.enabled,
        job.next_at,
    )


def _interval(schedule: Schedule) -> IntervalSchedule:
    assert isinstance(schedule, IntervalSchedule)
    return schedule
