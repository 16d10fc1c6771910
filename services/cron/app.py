"""The API process: create_app() and its lifespan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from services.cron import failpoints
from services.cron.api import Edge, routes
from services.cron.handlers import Context
from services.cron.settings import CronSettings
from services.cron.store.jobs import JobStore
from services.cron.targets import policy_of
from services.kit import ids, postgres
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.kit.store import StoreUnavailable

log = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0
SWEEP_BATCH = 1000


def create_app(process: ProcessSettings, settings: CronSettings, *, clock: Clock | None = None) -> FastAPI:
    """The cron API. It also forgets old runs; any number of it may run."""
    failpoints.register(*failpoints.API)
    edge = Current[Edge]()
    tasks = Tasks()
    time = clock or SystemClock()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with await postgres.create_pool(
            settings.database_url.get_secret_value(), name="cron-api", maximum=settings.database_pool
        ) as pool:
            store = JobStore(pool)
            context = Context(store, policy_of(settings, lab_profile=process.lab_profile), settings)
            with edge.holding(Edge(context, time.monotonic)):
                tasks.start("sweeper", sweep_forever(store, timedelta(days=settings.retention_days)))
                yield
                await tasks.stop()

    app = service_app(
        "cron-api",
        process,
        lifespan=lifespan,
        checks={"database": edge.ready(lambda it: it.context.store.answers())},
        description="Jobs that run when they are due: each instant accounted, each effect fenced.",
    )
    app.include_router(routes(edge))
    return app


async def sweep(store: JobStore, kept: timedelta) -> int:
    """Forget what is older than `kept`, by the database's clock; return how many rows. Raises StoreUnavailable."""
    bound = ids.uuid7(at_ms=round((await store.now() - kept).timestamp() * 1000))
    total = 0
    while (swept := await store.sweep(bound, kept, SWEEP_BATCH)) == SWEEP_BATCH:
        total += swept
    return total + swept


async def sweep_forever(store: JobStore, kept: timedelta) -> None:
    """`sweep` again and again."""
    while True:
        try:
            if swept := await sweep(store, kept):
                log.info("forgot old runs", extra={"rows": swept})
        except StoreUnavailable as error:
            log.warning("the database is away", extra={"error": str(error)})
        await asyncio.sleep(SWEEP_SECONDS)
