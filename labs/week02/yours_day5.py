"""Your turn: cron on three nodes. `make lab week=2 day=5 variant=yours` judges it as it judged the other two.

The shell is here (HTTP, database, the loop of a node, the call of the target); what is missing is `hold_lease` and
`fire_due`. Add your tables to TABLES. The target applies a run id once (it remembers it for 8 s in this lab) and refuses
an epoch below the highest that it has seen.

The checker reads `runs(job_id, scheduled_for, state, fired_at)`: exactly one row for each instant of each job (the first is
`next_at` as it was at the job's creation, then one each `every`), state `fired`, `late`, `skipped`, `coalesced` or `failed`
in the end. It reads the target's own record, too.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import aiohttp
import asyncpg
from fastapi import FastAPI
from prometheus_client import REGISTRY, Gauge

from labs.week02.cron_jobs import JOBS, router
from labs.week02.infrastructure import ensure_database
from services.kit.clock import SystemClock
from services.kit.failpoint import failpoint, register
from services.kit.http import Tasks, serve, service_app
from services.kit.settings import ProcessSettings, load

TICK_SECONDS = 0.2
CALL_TIMEOUT = aiohttp.ClientTimeout(total=2)
TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id text PRIMARY KEY, job_id text NOT NULL, scheduled_for timestamptz NOT NULL, state text NOT NULL,
    fired_at timestamptz);
"""
LEADER = Gauge("cron_leader", "1 if this node holds the lease, as far as it knows", registry=None)

register("cron.after_due_list", "cron.before_effect", "cron.after_effect")


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`. `next_at` is the first instant that nobody has taken care of."""

    id: str
    name: str
    every: timedelta
    url: str
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """Yours until `valid_until` (seconds of time.monotonic()). Every new holder has a higher epoch than all before."""

    epoch: int
    valid_until: float

    @property
    def valid(self) -> bool:
        """True may be false again before the next line runs."""
        return time.monotonic() < self.valid_until


class Told(StrEnum):
    """What the target said; UNKNOWN: nothing, so it may have happened."""

    DONE = "done"
    STALE = "stale"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class World:
    """What you have to work with. `node` is this node's name, `db` an asyncpg pool."""

    node: str
    lease_seconds: int
    db: asyncpg.Pool[asyncpg.Record]
    http: aiohttp.ClientSession
    clock: SystemClock


async def hold_lease(world: World) -> Lease | None:
    """Take the lease if it is free, renew it if it is yours, None if it is another's. Called five times a second."""
    del world
    return None  # yours to write: nobody leads, so nothing is ever fired


async def fire_due(world: World, lease: Lease) -> None:
    """Call the target for each instant that is due and leave one row for each. Called while you hold the lease."""
    del world, lease
    raise NotImplementedError("Write fire_due() in labs/week02/yours_day5.py")


async def due_jobs(world: World, now: datetime) -> list[Job]:
    """Jobs with an instant up to `now`. Whose clock is `now` from?"""
    rows = await world.db.fetch("SELECT * FROM jobs WHERE next_at <= $1 ORDER BY next_at", now)
    if rows:
        await failpoint("cron.after_due_list")
    return [Job(row["id"], row["name"], row["every"], row["url"], row["next_at"]) for row in rows]


async def call_target(world: World, job: Job, run_id: str, epoch: int) -> Told:
    """One call for the instant `job.next_at`."""
    await failpoint("cron.before_effect", job.name)
    headers = {
        "Cron-Job-Id": job.id,
        "Cron-Scheduled-For": job.next_at.isoformat(),
        "Cron-Run-Id": run_id,
        "Cron-Epoch": str(epoch),
    }
    try:
        async with world.http.post(job.url, headers=headers) as answer:
            told = Told.DONE if answer.ok else Told.STALE if answer.status == 409 else Told.FAILED
    except (aiohttp.ClientError, TimeoutError):
        told = Told.UNKNOWN
    await failpoint("cron.after_effect", job.name)
    return told


async def run_node(world: World) -> None:
    """The loop of a node. A store that does not answer is no reason to die."""
    while True:
        try:
            async with asyncio.timeout(world.lease_seconds):
                lease = await hold_lease(world)
            LEADER.set(lease is not None)
            if lease is not None:
                await fire_due(world, lease)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            LEADER.set(0)
        await asyncio.sleep(TICK_SECONDS)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["YOURS_DATABASE_URL"]
    await ensure_database(os.environ["YOURS_ADMIN_DATABASE_URL"], JOBS + TABLES)
    async with asyncpg.create_pool(url, min_size=1, command_timeout=2) as db:
        app.state.db = db
        if sys.argv[1:] == ["api"]:
            yield
            return
        async with aiohttp.ClientSession(timeout=CALL_TIMEOUT) as http:
            lease_seconds = int(os.environ["YOURS_LEASE_SECONDS"])
            tasks.start("node", run_node(World(os.environ["YOURS_NODE"], lease_seconds, db, http, SystemClock())))
            yield
            await tasks.stop()


process, tasks = load(ProcessSettings), Tasks()
app = service_app("week02-day5-yours", process, lifespan=lifespan)
app.include_router(router)


if __name__ == "__main__":
    REGISTRY.register(LEADER)
    serve(app, process, name="week02-day5-yours", tasks=tasks)
