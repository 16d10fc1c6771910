"""The API process: create_app() and its lifespan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.catalog import failpoints
from services.catalog.api import Edge, routes
from services.catalog.handlers import Context
from services.catalog.settings import ApiSettings
from services.catalog.store.imports import ImportStore
from services.catalog.store.products import ProductStore
from services.catalog.store.tree import TreeStore
from services.kit import postgres
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.kit.store import StoreUnavailable

log = logging.getLogger(__name__)

STREAMED = ("/v1/imports",)
SWEEP_SECONDS = 60.0
SWEEP_BATCH = 1000


def create_app(process: ProcessSettings, settings: ApiSettings, *, clock: Clock | None = None) -> FastAPI:
    """The catalogue's API. It also forgets old keys and imports; any number of it may run."""
    failpoints.register(*failpoints.ALL)
    edge = Current[Edge]()
    tasks = Tasks()
    time = clock or SystemClock()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with await postgres.create_pool(
            settings.database_url.get_secret_value(), name="catalog-api", maximum=settings.database_pool
        ) as pool:
            context = Context(ProductStore(pool), TreeStore(pool), ImportStore(pool), settings, time)
            with edge.holding(Edge(context, time.monotonic)):
                tasks.start("sweeper", sweep_forever(context))
                yield
                await tasks.stop()

    app = service_app(
        "catalog-api",
        process,
        lifespan=lifespan,
        checks={"database": edge.ready(lambda it: it.context.products.answers())},
        description="The product catalogue. Its database's log is what search is built from.",
    )
    app.include_router(routes(edge))
    return app


async def sweep(context: Context) -> int:
    """Forget expired keys and old imports; return how many rows. Raises StoreUnavailable."""
    total = 0
    while (keys := await context.products.sweep_keys(SWEEP_BATCH)) == SWEEP_BATCH:
        total += keys
    while (imports := await context.imports.sweep(context.settings.retention_days, SWEEP_BATCH)) == SWEEP_BATCH:
        total += imports
    return total + keys + imports


async def sweep_forever(context: Context) -> None:
    """`sweep` again and again."""
    while True:
        try:
            if swept := await sweep(context):
                log.info("forgot old keys and imports", extra={"rows": swept})
        except StoreUnavailable as error:
            log.warning("the database is away", extra={"error": str(error)})
        await asyncio.sleep(SWEEP_SECONDS)
