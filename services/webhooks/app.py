"""The API process: create_app() and its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.kit import postgres
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.webhooks import failpoints, intake
from services.webhooks.api import routes
from services.webhooks.dispatcher import policy
from services.webhooks.edge import Edge
from services.webhooks.handlers import Context
from services.webhooks.intake import Backlog, Schemas
from services.webhooks.keys import Keyring
from services.webhooks.page import Sessions, page_routes
from services.webhooks.publisher import Publisher
from services.webhooks.settings import WebhooksSettings
from services.webhooks.store import EndpointStore, MessageStore, ReplayStore


def create_app(
    process: ProcessSettings, settings: WebhooksSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The webhooks API. It opens its pool when it starts; its loops take part in the process's life."""
    failpoints.register(*failpoints.API)
    allowed = policy(process, settings)
    edge, tasks = Current[Edge](), Tasks()
    time = clock or SystemClock()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with await postgres.create_pool(
            settings.database_url.get_secret_value(), name="webhooks-api", maximum=settings.database_pool
        ) as pool:
            endpoints = EndpointStore(pool)
            messages = MessageStore(pool, first_delay_seconds=settings.retries.delays[0])
            publisher, backlog = Publisher(messages), Backlog(settings.max_backlog)
            context = Context(
                endpoints,
                messages,
                ReplayStore(pool),
                publisher,
                Schemas(endpoints, time),
                backlog,
                Keyring(settings.secrets_key.get_secret_value()),
                allowed,
                time,
                settings,
            )
            with edge.holding(Edge(context)):
                tasks.start("publisher", publisher.run())
                tasks.start("backlog", intake.keep_counting(messages, backlog, time))
                yield
                await tasks.stop()

    app = service_app(
        "webhooks-api",
        process,
        lifespan=lifespan,
        checks={"database": edge.ready(lambda it: it.context.endpoints.answers())},
        description="Events to endpoints that customers run: at least once, signed, retried, visible.",
    )
    app.include_router(routes(edge))
    app.include_router(page_routes(edge, Sessions.of(settings.secrets_key.get_secret_value())))
    return app, tasks
