"""One-shot migration of a service's database: roles and database where they are missing, then Alembic as the owner.

Only the `<service>-migrate` processes import this: SQLAlchemy costs a process some 30 MiB.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

Fill = Callable[[AsyncConnection], Awaitable[None]]
"""Rows that belong to a profile (the lab's demo tenants). Idempotent; runs as the owner, in the migration's transaction."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What is migrated. `<service>_owner` owns everything and cannot log in; `<service>_app` gets what migrations grant.

    `folder` is Alembic's; `switched_off` are planner settings that are off for the service's own role.
    """

    service: str
    folder: Path
    switched_off: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        return f"{self.service}_owner"

    @property
    def app(self) -> str:
        return f"{self.service}_app"


async def migrate(schema: Schema, admin_url: str, app_url: str, fill: Fill | None = None) -> str:
    """Bring the database that both URLs name up to date; return its name. Idempotent; two at once take turns.

    Raises asyncpg's and SQLAlchemy's errors, and ValueError for URLs that do not fit.
    """
    admin, app = urlsplit(admin_url), urlsplit(app_url)
    name, prefix = admin.path.removeprefix("/"), schema.service.upper()
    if not name or app.path != admin.path:
        raise ValueError(f"{prefix}_ADMIN_DATABASE_URL and {prefix}_DATABASE_URL must name the same database")
    if app.username != schema.app or not app.password:
        raise ValueError(f"{prefix}_DATABASE_URL must have the user {schema.app} and a password")
    cluster = await asyncpg.connect(urlunsplit(admin._replace(path="/postgres")), timeout=10)
    try:
        # In the database `postgres`: roles belong to the whole cluster, so all prefixes take turns.
        await cluster.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"{schema.service} migration")
        await _roles(cluster, schema, unquote(app.password))
        await _database(cluster, schema, name)
        await _upgrade(urlunsplit(admin._replace(scheme="postgresql+asyncpg")), schema, fill)
    finally:
        await cluster.close()
    return name


async def _roles(cluster: asyncpg.Connection[asyncpg.Record], schema: Schema, password: str) -> None:
    wanted = [schema.owner, schema.app]
    rows = await cluster.fetch("SELECT rolname FROM pg_roles WHERE rolname = ANY($1)", wanted)
    have = {row["rolname"] for row in rows}
    if schema.owner not in have:
        await cluster.execute(f"CREATE ROLE {schema.owner} NOLOGIN")
    if schema.app not in have:
        await cluster.execute(f"CREATE ROLE {schema.app} NOLOGIN NOINHERIT")
    alter = "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)"
    await cluster.execute(await cluster.fetchval(alter, schema.app, password))
    for setting in schema.switched_off:
        await cluster.execute(f"ALTER ROLE {schema.app} SET {setting} = off")


async def _database(cluster: asyncpg.Connection[asyncpg.Record], schema: Schema, name: str) -> None:
    if not await cluster.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
        create = "SELECT format('CREATE DATABASE %I OWNER %I', $1::text, $2::text)"
        await cluster.execute(await cluster.fetchval(create, name, schema.owner))
    for statement in ("REVOKE ALL ON DATABASE %I FROM PUBLIC", f"GRANT CONNECT ON DATABASE %I TO {schema.app}"):
        await cluster.execute(await cluster.fetchval(f"SELECT format('{statement}', $1::text)", name))


async def _upgrade(url: str, schema: Schema, fill: Fill | None) -> None:
    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(schema.folder))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET ROLE {schema.owner}"))
            await connection.run_sync(upgrade)
            if fill is not None:
                await fill(connection)
    finally:
        await engine.dispose()
