"""The API process: create_app() and its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.checkout import failpoints, metrics
from services.checkout.api import Edge, routes
from services.checkout.payments import Payments
from services.checkout.settings import CheckoutSettings
from services.kit import failpoint
from services.kit.current import Current
from services.kit.deadline import Deadlines
from services.kit.http import service_app
from services.kit.settings import ProcessSettings
from services.patterns.deadline import Budget


def create_app(process: ProcessSettings, settings: CheckoutSettings) -> FastAPI:
    """The checkout API. It is ready whether or not payments is: what it cannot do it says at once."""
    failpoint.register(*failpoints.ALL)
    edge = Current[Edge]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with Payments(settings) as payments:
            with edge.holding(Edge(payments, settings)):
                yield

    app = service_app(
        "checkout-api",
        process,
        lifespan=lifespan,
        deadlines=Deadlines(
            Budget(settings.budget_seconds, settings.budget_maximum_seconds), metrics.ABANDONED, metrics.WASTED
        ),
        description="The till: an answer within its budget, whatever stands behind it.",
    )
    app.include_router(routes(edge))
    return app
