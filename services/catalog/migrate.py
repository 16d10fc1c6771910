"""The schema of the catalogue, its further roles, and the lab's demo keys. See kit.migration."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.connector import CDC_ROLE, HEARTBEATS
from services.catalog.settings import MigrateSettings
from services.contracts.catalog import READABLE, READER
from services.kit import migration

SCHEMA = migration.Schema("catalog", Path(__file__).parent / "migrations")

DEMO_KEYS = {"demo": "lab_demo_catalog_key"}

_KEY = text("INSERT INTO api_keys (key_sha256, owner) VALUES (:hash, :owner) ON CONFLICT DO NOTHING")


@dataclass(frozen=True, slots=True)
class Login:
    """A role beside the service's own. `rights` are granted in the catalogue's database."""

    name: str
    attributes: str
    rights: tuple[str, ...]


_TABLES = ", ".join(READABLE)
LOGINS = {
    "reader_database_url": Login(READER, "NOREPLICATION", (f"SELECT ON {_TABLES}",)),
    "cdc_database_url": Login(
        CDC_ROLE,
        "REPLICATION",
        (f"SELECT ON {_TABLES}, {HEARTBEATS}", f"INSERT, UPDATE ON {HEARTBEATS}"),
    ),
}
"""By the name of the setting. REPLICATION is what opening a slot takes; it lets its owner read every database's log."""


async def migrate(settings: MigrateSettings, *, demo_keys: bool = False) -> str:
    """Bring the database up to date; return its name. Raises what kit.migration.migrate raises."""
    admin, app = settings.admin_database_url.get_secret_value(), settings.database_url.get_secret_value()
    wanted = [(login, url) for setting, login in LOGINS.items() if (url := getattr(settings, setting)) is not None]
    for login, url in wanted:
        _check(login, url, admin)
    name = await migration.migrate(SCHEMA, admin, app, _demo if demo_keys else None)
    await _add(admin, name, wanted)
    return name


async def _demo(connection: AsyncConnection) -> None:
    for owner, key in DEMO_KEYS.items():
        await connection.execute(_KEY, {"hash": hashlib.sha256(key.encode()).digest(), "owner": owner})


def _check(login: Login, url: SecretStr, admin: str) -> None:
    parts = urlsplit(url.get_secret_value())
    if parts.username != login.name or not parts.password:
        raise ValueError(f"the URL of {login.name} must have that user and a password")
    if parts.path != urlsplit(admin).path:
        raise ValueError(f"the URL of {login.name} must name the same database as CATALOG_ADMIN_DATABASE_URL")


async def _add(admin: str, database: str, wanted: list[tuple[Login, SecretStr]]) -> None:
    connection = await asyncpg.connect(admin, timeout=10)
    try:
        async with connection.transaction():
            # Roles belong to the whole cluster: migrations of two databases take turns.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('catalog logins', 0))")
            for login, url in wanted:
                password = unquote(urlsplit(url.get_secret_value()).password or "")
                await _add_login(connection, login, password, database)
    finally:
        await connection.close()


async def _add_login(
    connection: asyncpg.Connection[asyncpg.Record], login: Login, password: str, database: str
) -> None:
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", login.name):
        await connection.execute(f"CREATE ROLE {login.name} NOINHERIT")
    alter = f"SELECT format('ALTER ROLE %I LOGIN {login.attributes} PASSWORD %L', $1::text, $2::text)"
    await connection.execute(await connection.fetchval(alter, login.name, password))
    grant = f"SELECT format('GRANT CONNECT ON DATABASE %I TO {login.name}', $1::text)"
    await connection.execute(await connection.fetchval(grant, database))
    await connection.execute(f"GRANT USAGE ON SCHEMA public TO {login.name}")
    for right in login.rights:
        await connection.execute(f"GRANT {right} TO {login.name}")


def run(settings: MigrateSettings, *, demo_keys: bool = False) -> str:
    """`migrate`, for the command line."""
    return asyncio.run(migrate(settings, demo_keys=demo_keys))
