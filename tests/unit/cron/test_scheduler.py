"""The leader's loops with a store in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pydantic import SecretStr

from services.cron.domain import Concurrency, HttpTarget, Job, MisfirePolicy, Outcome, Plan, Target
from services.cron.schedule import IntervalSchedule
from services.cron.scheduler import Finisher, Term
from services.cron.settings import CronSettings
from services.cron.store.plans import Planned
from services.cron.store.schedules import Due, Schedules
from services.cron.targets import Effect
from services.kit.clock import SystemClock
from services.patterns.lease import Lease

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JOBS = 20


class Backlog(Schedules):
    """Twenty jobs with two months of missed seconds; the first write ends the test."""

    def __init__(self) -> None:
        self.written: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def due(self, limit: int) -> Due:
        del limit
        return Due(NOW, tuple(job(UUID(int=number + 1)) for number in range(JOBS)))

    async def backlog(self) -> tuple[int, float]:
        return 0, 0.0

    async def plan(self, plans: Sequence[Plan]) -> Planned:
        if not self.written.done():
            self.written.set_result(len(plans))
        await asyncio.sleep(3600)
        raise AssertionError


class Nobody:
    async def fire(self, target: Target, effect: Effect) -> Outcome:
        raise AssertionError


def job(identity: UUID) -> Job:
    anchor = NOW - timedelta(days=60)
    return Job(
        identity, "ten", "job", IntervalSchedule(1, anchor), HttpTarget("http://example.com/", "{}"), MisfirePolicy(),
        Concurrency.ALLOW, 0, 0, 15, True, 1, 1, anchor, anchor, anchor,
    )  # fmt: skip


async def test_the_lease_can_be_renewed_between_the_plans_of_a_long_outage() -> None:
    settings = CronSettings(database_url=SecretStr("postgresql://localhost/x"), kafka_bootstrap="localhost:1")
    store, clock = Backlog(), SystemClock()
    lease = Lease(1, 10.0, clock.monotonic(), clock.monotonic)
    term = Term(settings, store, lease, Nobody(), clock, random.Random(1), Finisher(store, 10.0))
    turns = 0

    async def renew() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(renew()), asyncio.create_task(term._plan_forever())]
    try:
        async with asyncio.timeout(30):
            assert await store.written == JOBS
        assert turns >= JOBS
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
