"""Cron on three nodes as most people would write it first: a loop per node, and a lock in Redis that expires.

`python -m labs.week02.naive_cron api` takes jobs, `python -m labs.week02.naive_cron node` is one of the three.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import aiohttp
import asyncpg
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from labs.week02.cron_jobs import JOBS, router
from labs.week02.infrastructure import ensure_database
from services.kit.clock import SystemClock
from services.kit.failpoint import failpoint, register
from services.kit.http import serve, service_app
from services.kit.settings import ProcessSettings, load

TICK_SECONDS = 1
CALL_TIMEOUT = aiohttp.ClientTimeout(total=2)
LOCK = os.environ.get("LAB_PREFIX", "") + "cron-leader"
RUNS = """
CREATE TABLE IF NOT EXISTS runs (
    id bigserial PRIMARY KEY, job_id text NOT NULL, scheduled_for timestamptz NOT NULL, state text NOT NULL,
    node text NOT NULL, fired_at timestamptz NOT NULL);
"""
LEADER = Gauge("cron_leader", "1 if this node holds the lock, as far as it knows")

register("cron.after_due_list", "cron.before_effect", "cron.after_effect")


class Node:
    def __init__(
        self, name: str, lease: int, db: asyncpg.Pool[asyncpg.Record], redis: Redis, http: aiohttp.ClientSession
    ) -> None:
        self.name, self.lease, self.db, self.redis, self.http = name, lease, db, redis, http
        self.clock = SystemClock()

    async def tick(self) -> None:
        try:
            leads = await self.lead()
        except RedisError:
            leads = False
        LEADER.set(leads)
        if leads:
            await self.fire_due()

    async def lead(self) -> bool:
        if await self.redis.set(LOCK, self.name, nx=True, ex=self.lease):
            return True
        if await self.redis.get(LOCK) != self.name:
            return False
        await self.redis.expire(LOCK, self.lease)
        return True

    async def fire_due(self) -> None:
        due = await self.db.fetch("SELECT * FROM jobs WHERE next_at <= $1 ORDER BY next_at", self.clock.now())
        if due:
            await failpoint("cron.after_due_list")
        for job in due:
            await self.fire(job)

    async def fire(self, job: asyncpg.Record) -> None:
        at: datetime = job["next_at"]
        await failpoint("cron.before_effect", job["name"])
        headers = {"Cron-Job-Id": job["id"], "Cron-Scheduled-For": at.isoformat()}
        try:
            async with self.http.post(job["url"], headers=headers) as answer:
                state = "fired" if answer.ok else "failed"
        except (aiohttp.ClientError, TimeoutError):
            state = "failed"
        await failpoint("cron.after_effect", job["name"])
        await self.db.execute(
            "INSERT INTO runs (job_id, scheduled_for, state, node, fired_at) VALUES ($1, $2, $3, $4, $5)",
            job["id"], at, state, self.name, self.clock.now(),
        )  # fmt: skip
        await self.db.execute("UPDATE jobs SET next_at = $2 WHERE id = $1", job["id"], at + job["every"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await ensure_database(os.environ["NAIVE_DATABASE_URL"], JOBS + RUNS)
    async with asyncpg.create_pool(os.environ["NAIVE_DATABASE_URL"], min_size=1) as db:
        app.state.db = db
        if sys.argv[1:] == ["api"]:
            yield
            return
        redis = Redis.from_url(os.environ["NAIVE_REDIS_URL"], decode_responses=True)
        async with redis, aiohttp.ClientSession(timeout=CALL_TIMEOUT) as http:
            node = Node(os.environ["NAIVE_NODE"], int(os.environ["NAIVE_LEASE_SECONDS"]), db, redis, http)
            scheduler = AsyncIOScheduler()
            scheduler.add_job(node.tick, "interval", seconds=TICK_SECONDS, max_instances=1, coalesce=True)
            scheduler.start()
            yield
            scheduler.shutdown(wait=False)


process = load(ProcessSettings)
app = service_app("week02-day5-naive", process, lifespan=lifespan)
app.include_router(router)

if __name__ == "__main__":
    serve(app, process, name="week02-day5-naive")
