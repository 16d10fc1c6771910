"""create_app and its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.kit.current import Current
from services.kit.http import service_app
from services.kit.postgres import Pool, answers, create_pool
from services.kit.settings import ProcessSettings
from services.kit.switches import routes
from services.simulators.target import api, store
from services.simulators.target.behaviours import Switchboard
from services.simulators.target.settings import TargetSettings

NAME = "sim-target"
MOST_CONNECTIONS = 16


def create_app(process: ProcessSettings, settings: TargetSettings) -> FastAPI:
    """The target as an application; its database is prepared when it starts."""
    switches = Switchboard()
    current = Current[Pool]()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await store.prepare_database(settings.database_url)
        pool = await create_pool(settings.database_url, name=NAME, minimum=2, maximum=MOST_CONNECTIONS)
        app.state.context = api.Context(pool, switches, settings.remembers_seconds)
        try:
            with current.holding(pool):
                yield
        finally:
            await pool.close()

    app = service_app(
        NAME,
        process,
        lifespan=lifespan,
        checks={"database": current.ready(answers)},
        description="What scheduled jobs call: applies a run once, refuses an old leader, keeps its own record",
    )
    app.include_router(api.router)
    if process.lab_profile:
        app.include_router(routes(switches))
    return app
