"""asyncpg pools with bounds, so that a slow database shows as a clear error and not as a pile of waiting requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.kit import deadline

log = logging.getLogger(__name__)

# Quoted: asyncpg's classes are generic in its stubs only.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

DATABASE_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that a call raises when the database is away or refuses.

InternalClientError is no InterfaceError: asyncpg raises it for a query begun between the server's FATAL and the end of the
connection.
"""

CANCEL_SECONDS = 0.1
"""A server has so long after the deadline to end the statement that it was told to end; then the connection is dropped."""
CONNECT_SECONDS = 5.0
"""Bound on one attempt to connect."""


async def _nothing_to_reset(_: object) -> None:
    """Called when a connection goes back to its pool.

    asyncpg's default sends RESET ALL and more, a round trip for each use. Our statements leave nothing in the session
    (no SET, LISTEN, session-level lock or cursor goes through a pool), and asyncpg itself ends an open transaction.
    """


async def create_pool(
    url: str,
    *,
    name: str,
    minimum: int = 2,
    maximum: int = 10,
    statement_timeout_ms: int = 5_000,
    wait_seconds: float = 30.0,
) -> Pool:
    """A pool of `minimum` to `maximum` connections, waiting up to `wait_seconds` for the server to come up.

    `statement_timeout_ms` bounds each statement on the server's side, `name` is seen in pg_stat_activity.
    Raises the last connection error when the wait is over.
    """
    settings = {
        "application_name": name,
        "statement_timeout": str(statement_timeout_ms),
        "idle_in_transaction_session_timeout": "60000",
    }
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        try:
            return await asyncpg.create_pool(
                url,
                min_size=minimum,
                max_size=maximum,
                timeout=CONNECT_SECONDS,
                command_timeout=statement_timeout_ms / 1000 + 1,
                server_settings=settings,
                reset=_nothing_to_reset,
                max_inactive_connection_lifetime=0,
            )
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, TimeoutError) as error:
            if loop.time() > deadline:
                raise
            log.warning("database is not there yet", extra={"error": type(error).__name__})
            await asyncio.sleep(0.25)


async def create_database(url: str, schema: str, *, lock: int) -> None:
    """Create the database of `url` and what `schema` (idempotent SQL) makes, where absent. Raises asyncpg errors.

    For processes without migrations. `lock` is the advisory lock under which several that start at once take turns.
    """
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", lock)
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            quoted = name.replace('"', '""')
            await connection.execute(f'CREATE DATABASE "{quoted}"')
    finally:
        await connection.close()
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", lock)
            await connection.execute("SET LOCAL client_min_messages = warning")
            await connection.execute(schema)
    finally:
        await connection.close()


Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


@asynccontextmanager
async def borrowed(pool: Pool, *, wait_seconds: float) -> AsyncIterator[Connection]:
    """A connection of the pool, for the current deadline at most: then a wait for it ends, and so does a statement.

    A statement is cancelled on the server too, since asyncpg sends a cancel request for an await that is given up; so no
    `SET LOCAL statement_timeout` is needed, which would cost a round trip. Whether a commit in flight then was made is not
    known. A server that does not answer the cancel request either loses the connection, else asyncpg would wait for it on.
    Raises kit.deadline.DeadlineOver, DATABASE_ERRORS.
    """
    until = deadline.current()
    try:
        async with (
            asyncio.timeout(until.remaining() if until else None),
            AsyncExitStack() as after_release,
            pool.acquire(timeout=wait_seconds) as held,
        ):
            if until is not None:
                after_release.callback(_dropped_after(held, until.remaining() + CANCEL_SECONDS).cancel)
            yield held
    except TimeoutError:
        if until is not None and until.over:
            raise deadline.DeadlineOver from None
        raise


def _dropped_after(held: Connection, seconds: float) -> asyncio.TimerHandle:
    # Released, the proxy is detached at once, though asyncpg still waits; only what is behind it can be dropped then.
    connection: asyncpg.Connection[asyncpg.Record] = held._con  # type: ignore[attr-defined]  # noqa: SLF001  # private
    return asyncio.get_running_loop().call_later(seconds, connection.terminate)


async def answers(pool: Pool) -> bool:
    """A readiness check: one round trip within a second."""
    try:
        await asyncio.wait_for(pool.fetchval("SELECT 1"), 1.0)
    except DATABASE_ERRORS:
        return False
    return True
