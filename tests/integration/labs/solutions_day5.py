"""Answers that learners might give to day 5, a right one and plausible wrong ones; the checker must tell them apart."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any
from uuid import uuid4

TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id text PRIMARY KEY, job_id text NOT NULL, scheduled_for timestamptz NOT NULL, state text NOT NULL,
    fired_at timestamptz, UNIQUE (job_id, scheduled_for));
CREATE TABLE IF NOT EXISTS leases (name text PRIMARY KEY, holder text, epoch bigint, expires_at timestamptz);
"""
ROWS_WITHOUT_A_KEY = TABLES.replace(", UNIQUE (job_id, scheduled_for)", "")

TAKE = """
INSERT INTO leases VALUES ('cron', $1, 1, now() + make_interval(secs => $2))
ON CONFLICT (name) DO UPDATE SET holder = $1, expires_at = now() + make_interval(secs => $2),
    epoch = leases.epoch + CASE WHEN leases.holder = $1 AND leases.expires_at > now() THEN 0 ELSE $3 END
WHERE leases.holder = $1 OR leases.expires_at < now() RETURNING epoch
"""
INTEND = "INSERT INTO runs (id, job_id, scheduled_for, state) VALUES ($1, $2, $3, 'firing') ON CONFLICT DO NOTHING"
FINISH = "UPDATE runs SET state = 'fired', fired_at = now() WHERE id = $1 AND state = 'firing'"
MOVE_ON = "UPDATE jobs SET next_at = $3 WHERE id = $1 AND next_at = $2"
MOVE_BLINDLY = "UPDATE jobs SET next_at = $2 WHERE id = $1"
ADD_ROW = "INSERT INTO runs (id, job_id, scheduled_for, state, fired_at) VALUES ($1, $2, $3, 'fired', now())"


class Right:
    """Epochs that grow, run ids that any node computes, one row per instant, written before the effect."""

    tables = TABLES
    growth = 1

    def __init__(self, yours: ModuleType) -> None:
        self.yours = yours

    async def hold_lease(self, world: Any) -> Any:
        asked = time.monotonic()
        epoch = await world.db.fetchval(TAKE, world.node, float(world.lease_seconds), self.growth)
        return None if epoch is None else self.yours.Lease(epoch, asked + world.lease_seconds)

    def run_id(self, job: Any) -> str:
        return f"{job.id}/{job.next_at.isoformat()}"

    async def fire_due(self, world: Any, lease: Any) -> None:
        for job in await self.yours.due_jobs(world, await world.db.fetchval("SELECT now()")):
            if not lease.valid:
                return
            await self.fire(world, lease, job)

    async def fire(self, world: Any, lease: Any, job: Any) -> None:
        run = self.run_id(job)
        await world.db.execute(INTEND, run, job.id, job.next_at)
        if await self.yours.call_target(world, job, run, lease.epoch) is not self.yours.Told.DONE:
            return
        await world.db.execute(FINISH, run)
        await world.db.execute(MOVE_ON, job.id, job.next_at, job.next_at + job.every)


class SameEpoch(Right):
    """A lock, but no fencing token: every leader has epoch 1."""

    growth = 0


class NewRunIds(Right):
    """An id per attempt instead of one per instant."""

    def run_id(self, job: Any) -> str:
        return str(uuid4())

    async def fire(self, world: Any, lease: Any, job: Any) -> None:
        run = self.run_id(job)
        if await self.yours.call_target(world, job, run, lease.epoch) is not self.yours.Told.DONE:
            return
        await world.db.execute(INTEND, run, job.id, job.next_at)
        await world.db.execute(FINISH, run)
        await world.db.execute(MOVE_ON, job.id, job.next_at, job.next_at + job.every)


class RowAfterwards(Right):
    """A row after each call, whoever made it, and the calendar set to what this node believes."""

    tables = ROWS_WITHOUT_A_KEY

    async def fire(self, world: Any, lease: Any, job: Any) -> None:
        await self.yours.call_target(world, job, self.run_id(job), lease.epoch)
        await world.db.execute(ADD_ROW, str(uuid4()), job.id, job.next_at)
        await world.db.execute(MOVE_BLINDLY, job.id, job.next_at + job.every)
