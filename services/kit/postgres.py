"""asyncpg pools with bounds, so that a slow database shows as a clear error and not as a pile of waiting requests."""

from __future__ import annotations

import asyncio
import logging

import asyncpg

log = logging.getLogger(__name__)

DATABASE_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that a call raises when the database is away or refuses.

InternalClientError is no InterfaceError: asyncpg raises it for a query begun between the server's FATAL and the end of the
connection.
"""

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
) -> asyncpg.Pool[asyncpg.Record]:
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


async def answers(pool: asyncpg.Pool[asyncpg.Record]) -> bool:
    """A readiness check: one round trip within a second."""
    try:
        await asyncio.wait_for(pool.fetchval("SELECT 1"), 1.0)
    except DATABASE_ERRORS:
        return False
    return True
