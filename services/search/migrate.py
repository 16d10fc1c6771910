"""The schema of search's own database, and the first index. See kit.migration."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg

from services.kit import migration
from services.kit.clock import SystemClock
from services.search.engine import Engine, EngineDown
from services.search.indices import Indices, Shape
from services.search.settings import MigrateSettings

SCHEMA = migration.Schema("search", Path(__file__).parent / "migrations")
ENGINE_SECONDS = 60.0
"""How long the engine may take to be there."""
_LOCK = "SELECT pg_advisory_lock(hashtextextended($1, 0))"


async def migrate(settings: MigrateSettings, prefix: str) -> tuple[str, str]:
    """Bring the database up to date and have an index; return both names. Two at once take turns.

    Raises what kit.migration.migrate raises, and the engine's errors.
    """
    admin, app = settings.admin_database_url.get_secret_value(), settings.database_url.get_secret_value()
    database = await migration.migrate(SCHEMA, admin, app)
    lock = await asyncpg.connect(app, timeout=10)
    try:
        await lock.execute(_LOCK, f"search index {prefix}")
        return database, await _index(settings, prefix)
    finally:
        await lock.close()


async def _index(settings: MigrateSettings, prefix: str) -> str:
    until = asyncio.get_running_loop().time() + ENGINE_SECONDS
    async with Engine(settings.engine_urls, timeout=30) as engine:
        indices = Indices(engine, prefix, Shape(settings.index_shards, settings.index_replicas))
        while True:
            try:
                name = await indices.install(SystemClock().now())
                await engine.health(name, wait_for="yellow")
            except EngineDown:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(0.5)
            else:
                return name


def run(settings: MigrateSettings, prefix: str) -> tuple[str, str]:
    """`migrate`, for the command line."""
    return asyncio.run(migrate(settings, prefix))
