"""The API process: create_app() and its lifespan."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.kit import postgres
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.deadline import Deadlines
from services.kit.http import service_app
from services.kit.settings import ProcessSettings
from services.patterns.deadline import Budget
from services.payments import failpoints, metrics, ops
from services.payments.api import Edge, routes
from services.payments.bank import RETRIES, bank_client
from services.payments.handlers import Context
from services.payments.settings import PaymentsSettings
from services.payments.store import PaymentStore


def create_app(process: ProcessSettings, settings: PaymentsSettings, *, clock: Clock | None = None) -> FastAPI:
    """The payments API. It opens its pool and its session to the bank when it starts."""
    failpoints.register(*failpoints.API)
    edge = Current[Edge]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with (
            await postgres.create_pool(
                settings.database_url.get_secret_value(), name="payments-api", maximum=settings.database_pool
            ) as pool,
            bank_client(settings, retries=RETRIES) as bank,
        ):
            context = Context(PaymentStore(pool), bank, clock or SystemClock(), random.SystemRandom(), settings)
            with edge.holding(Edge(context)):
                yield

    app = service_app(
        "payments-api",
        process,
        lifespan=lifespan,
        checks={"database": edge.ready(lambda it: it.context.store.answers())},
        deadlines=Deadlines(
            Budget(settings.budget_seconds, settings.budget_maximum_seconds), metrics.ABANDONED, metrics.WASTED
        ),
        description="Payments that are charged once, whatever fails in between.",
    )
    app.include_router(routes(edge))
    if settings.ops_key.get_secret_value():
        app.include_router(ops.routes(lambda: edge().context.bank, settings.ops_key))
    return app
