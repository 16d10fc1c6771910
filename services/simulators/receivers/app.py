"""create_app and its lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources

from fastapi import FastAPI

from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.http import Tasks, service_app
from services.kit.postgres import Pool, answers, create_database, create_pool
from services.kit.settings import ProcessSettings
from services.kit.switches import routes
from services.simulators.receivers.behaviours import Switchboard
from services.simulators.receivers.hooks import HookProtocol, World
from services.simulators.receivers.recorder import Forgetful, Recorder, Records
from services.simulators.receivers.settings import ReceiversSettings
from services.simulators.receivers.signature import Verifier

NAME = "sim-receivers"
MOST_CONNECTIONS = 3
SCHEMA_LOCK = 0x72656376
"""Advisory lock of those who create the schema; any number that nobody else uses."""
BACKLOG = 2048


def create_app(
    process: ProcessSettings, settings: ReceiversSettings, tasks: Tasks, clock: Clock | None = None
) -> FastAPI:
    """Health, metrics and switches on HTTP_PORT; the lifespan opens the receivers' own port."""
    switches = Switchboard()
    current = Current[Pool]()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        schema = resources.files(__package__).joinpath("schema.sql").read_text()
        await create_database(settings.database_url, schema, lock=SCHEMA_LOCK)
        pool = await create_pool(settings.database_url, name=NAME, minimum=2, maximum=MOST_CONNECTIONS)
        recorder: Records = Forgetful()
        if settings.record:
            recorder = writer = Recorder(pool)
            tasks.start("recorder", writer.run())
        verifier = Verifier(settings.secret.get_secret_value(), settings.count)
        world = World(recorder, switches, verifier, clock or SystemClock(), settings.count, set())
        server = await asyncio.get_running_loop().create_server(
            partial(HookProtocol, world), process.http_host, settings.hooks_port, backlog=BACKLOG
        )
        app.state.hooks_port = server.sockets[0].getsockname()[1]
        try:
            with current.holding(pool):
                yield
        finally:
            server.close()
            await tasks.stop()
            for connection in list(world.open):
                connection.close()
            await pool.close()

    app = service_app(
        NAME,
        process,
        lifespan=lifespan,
        checks={"database": current.ready(answers)},
        description="A thousand webhook receivers that misbehave on demand and keep their own record",
    )
    if process.lab_profile:
        app.include_router(routes(switches))
    return app
