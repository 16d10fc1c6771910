"""Creates roles and database where they are missing, then migrates as the owner. Idempotent; two at once take turns."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from services.payments.settings import MigrateSettings

OWNER = "payments_owner"
APP = "payments_app"
TURN = 7_205_759_403_792_794
"""Advisory lock in the database `postgres`: roles belong to the whole cluster, so all prefixes take turns."""

DEMO_MERCHANTS = {
    "mer_demo": ("Demo merchant", "lab_demo_merchant_key"),
    "mer_other": ("Other merchant", "lab_other_merchant_key"),
}


async def migrate(settings: MigrateSettings, *, demo_merchants: bool) -> str:
    """Bring the database up to date; return its name. Raises asyncpg and SQLAlchemy errors, and ValueError for a URL."""
    admin = urlsplit(settings.admin_database_url.get_secret_value())
    app = urlsplit(settings.database_url.get_secret_value())
    name = admin.path.removeprefix("/")
    if not name or app.path != admin.path:
        raise ValueError("PAYMENTS_ADMIN_DATABASE_URL and PAYMENTS_DATABASE_URL must name the same database")
    if app.username != APP or not app.password:
        raise ValueError(f"PAYMENTS_DATABASE_URL must have the user {APP} and a password")
    cluster = await asyncpg.connect(urlunsplit(admin._replace(path="/postgres")), timeout=10)
    try:
        await cluster.execute("SELECT pg_advisory_lock($1)", TURN)
        await _roles(cluster, unquote(app.password))
        await _database(cluster, name)
        await _schema(urlunsplit(admin._replace(scheme="postgresql+asyncpg")), name, demo_merchants=demo_merchants)
    finally:
        await cluster.close()
    return name


async def _roles(cluster: asyncpg.Connection[asyncpg.Record], password: str) -> None:
    have = {
        row["rolname"] for row in await cluster.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE 'payments_%'")
    }
    if OWNER not in have:
        await cluster.execute(f"CREATE ROLE {OWNER} NOLOGIN")
    if APP not in have:
        await cluster.execute(f"CREATE ROLE {APP} NOLOGIN NOINHERIT")
    alter = await cluster.fetchval(
        "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)", APP, password
    )
    await cluster.execute(alter)


async def _database(cluster: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    if not await cluster.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name):
        await cluster.execute(
            await cluster.fetchval("SELECT format('CREATE DATABASE %I OWNER %I', $1::text, $2::text)", name, OWNER)
        )
    for statement in ("REVOKE ALL ON DATABASE %I FROM PUBLIC", f"GRANT CONNECT ON DATABASE %I TO {APP}"):
        await cluster.execute(await cluster.fetchval(f"SELECT format('{statement}', $1::text)", name))


async def _schema(url: str, name: str, *, demo_merchants: bool) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET ROLE {OWNER}"))
            await connection.run_sync(_upgrade)
            if demo_merchants:
                for merchant, (title, key) in DEMO_MERCHANTS.items():
                    await connection.execute(_MERCHANT, {"id": merchant, "name": title})
                    await connection.execute(_KEY, {"hash": hashlib.sha256(key.encode()).digest(), "id": merchant})
    finally:
        await engine.dispose()


_MERCHANT = text("INSERT INTO merchants (id, name) VALUES (:id, :name) ON CONFLICT DO NOTHING")
_KEY = text("INSERT INTO api_keys (key_sha256, merchant_id) VALUES (:hash, :id) ON CONFLICT DO NOTHING")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run(settings: MigrateSettings, *, demo_merchants: bool) -> str:
    """`migrate`, for the command line."""
    return asyncio.run(migrate(settings, demo_merchants=demo_merchants))
