"""create_app and its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.responses import Response

from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.errors import Problem
from services.kit.http import Tasks, service_app
from services.kit.postgres import Pool, answers, create_pool
from services.kit.settings import ProcessSettings
from services.kit.switches import routes
from services.simulators.bank import api
from services.simulators.bank.bank import Bank
from services.simulators.bank.behaviours import Switchboard
from services.simulators.bank.settings import BankSettings
from services.simulators.bank.store import prepare_database
from services.simulators.bank.webhooks import Webhooks
from services.simulators.bank.workers import WorkerPool
from services.simulators.bank.writer import ChargeWriter

NAME = "sim-bank"
MOST_CONNECTIONS = 8


def create_app(process: ProcessSettings, settings: BankSettings, tasks: Tasks, clock: Clock | None = None) -> FastAPI:
    """The bank as an application; its database is prepared when it starts."""
    switches = _switchboard(process, settings)
    workers = WorkerPool(switches)
    current = Current[Pool]()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await prepare_database(settings.database_url)
        pool = await create_pool(settings.database_url, name=NAME, minimum=2, maximum=MOST_CONNECTIONS)
        app.state.context = _context(settings, pool, switches, workers, clock or SystemClock(), tasks)
        try:
            with current.holding(pool):
                yield
        finally:
            await workers.stop()
            await tasks.stop()
            await pool.close()

    app = service_app(
        NAME,
        process,
        lifespan=lifespan,
        checks={"database": current.ready(answers)},
        description="A bank that misbehaves on demand and keeps its own record",
    )
    app.add_exception_handler(Problem, _bank_problem)
    app.router.routes[:0] = api.ROUTES
    if process.lab_profile:
        app.include_router(routes(switches, workers.wake))
    return app


def _switchboard(process: ProcessSettings, settings: BankSettings) -> Switchboard:
    switches = Switchboard()
    try:
        switches.put_all(settings.behaviours if process.lab_profile else "")
    except ValueError as error:
        raise SystemExit(f"Wrong settings. SIM_BANK_BEHAVIOURS: {error}") from None
    return switches


def _context(
    settings: BankSettings, pool: Pool, switches: Switchboard, workers: WorkerPool, clock: Clock, tasks: Tasks
) -> api.Context:
    writer = ChargeWriter(pool)
    tasks.start("charge-writer", writer.run())
    webhooks = None
    if settings.webhook_url:
        webhooks = Webhooks(settings.webhook_url, settings.webhook_secret.get_secret_value())
        tasks.start("webhooks", webhooks.run())
    return api.Context(
        key=settings.api_key.get_secret_value().encode(),
        bank=Bank(pool, writer, clock),
        pool=pool,
        writer=writer,
        switches=switches,
        workers=workers,
        webhooks=webhooks,
        clock=clock,
        shards=settings.shards,
    )


async def _bank_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    error.extra.setdefault("type", f"urn:bank:{error.code}")
    return error.response()
