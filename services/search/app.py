"""The API process: create_app() and its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any

from fastapi import FastAPI, Request

from services.kit.admission import Places
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.deadline import Deadlines
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.patterns.concurrency_limit import ConcurrencyLimit
from services.patterns.deadline import Budget
from services.patterns.single_flight import SingleFlight
from services.search import metrics, standing
from services.search.api import Edge, routes
from services.search.cache import Cache
from services.search.engine import Engine
from services.search.guard import Guard, SearchEngine
from services.search.handlers import Parts
from services.search.indices import READ
from services.search.limits import ClientLimits, client_of
from services.search.page import page_routes
from services.search.query.cursor import Cursors
from services.search.query.synonyms import SynonymFile
from services.search.relevance import Relevance, relevance
from services.search.relevance_api import relevance_routes
from services.search.settings import ApiSettings, RelevanceSettings
from services.search.standing import Standing


def create_app(
    process: ProcessSettings,
    settings: ApiSettings,
    *,
    clock: Clock | None = None,
    engine: AbstractAsyncContextManager[SearchEngine] | None = None,
    relevance_settings: RelevanceSettings | None = None,
) -> tuple[FastAPI, Tasks]:
    """The search API. It opens its connections when it starts; its loops take part in the process's life."""
    more = relevance_settings or RelevanceSettings.model_construct()
    edge, ranking, tasks = Current[Edge](), Current[Relevance](), Tasks()
    time = clock or SystemClock()
    alias = process.lab_prefix + READ

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        opened: AbstractAsyncContextManager[Any] = engine or Engine(
            settings.engine_urls,
            timeout=settings.engine_timeout_seconds,
            attempt=settings.engine_try_seconds if len(settings.engine_urls) > 1 else None,
        )
        async with opened as asked, relevance(more, process.lab_prefix, alias, asked, time, tasks) as ranks:
            parts = _parts(asked, alias, settings, time, ranks)
            limits = ClientLimits(settings.client_rate, settings.client_burst, time.monotonic)
            places = Places(settings.max_in_flight, metrics.REQUESTS_SHED.labels("overloaded").inc)
            with ranking.holding(ranks), edge.holding(Edge(parts, limits, places)):
                tasks.start("index", standing.keep_index(asked, alias, parts.standing, settings.alias_seconds))
                tasks.start("popular", standing.keep_popular(parts.guard, parts.standing, settings.popular_seconds))
                tasks.start(
                    "synonyms", standing.keep_synonyms(parts.synonyms, settings.alias_seconds, parts.memory.clear)
                )
                yield
                if ranks.clicks is not None:
                    await ranks.clicks.drain(more.click_drain_seconds)
                await tasks.stop()
                await parts.flights.close()
                await parts.suggesting.close()

    def admit(request: Request) -> None:
        edge().limits.admit(client_of(request, settings.client_header))

    app = service_app(
        "search-api",
        process,
        lifespan=lifespan,
        # The engine may be silent later; then something older is answered.
        checks={"index": edge.ready(lambda it: it.parts.standing.index is not None)},
        description="Products by text, filters and facets; within the caller's time, with less than everything if need be.",
        deadlines=Deadlines(
            Budget(settings.deadline_seconds, settings.deadline_limit_seconds), metrics.ABANDONED, metrics.WASTED
        ),
    )
    app.include_router(routes(edge))
    app.include_router(relevance_routes(ranking, admit, time.now))
    app.include_router(page_routes(edge))
    return app, tasks


def _parts(engine: SearchEngine, alias: str, settings: ApiSettings, clock: Clock, ranks: Relevance) -> Parts:
    limit = ConcurrencyLimit(settings.engine_slots, settings.engine_queue)
    memory = Cache(
        settings.cache_bytes,
        settings.cache_seconds,
        jitter=settings.cache_jitter,
        stale=settings.cache_stale_seconds,
        clock=clock.monotonic,
        random=Random(),  # noqa: S311  not for secrets
    )
    return Parts(
        engine=engine,
        alias=alias,
        guard=Guard(engine, limit, settings.queue_seconds, clock.monotonic),
        standing=Standing(),
        memory=memory,
        cursors=Cursors(settings.cursor_key.get_secret_value().encode()),
        synonyms=SynonymFile(),
        people=ranks.tastes,
        rules=ranks.book,
        clock=clock,
        settings=settings,
        flights=SingleFlight(),
        suggesting=SingleFlight(),
    )
