"""Pooled connections for a service's store, whose errors say only whether the database could be had."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg

from services.kit.postgres import Pool as Pool  # stores need no more of that module

# Quoted: asyncpg's classes are generic in its stubs only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_SECONDS = 2.0
"""How long a request waits for a connection."""

UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a query begun between the server's FATAL and the end of the connection
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.TransactionRollbackError,
)
"""Of kit.postgres.DATABASE_ERRORS those that may be gone at the next try. The others are defects, or refusals of the data."""


class StoreUnavailable(Exception):
    """The database cannot be reached or is too slow. A write may or may not have been committed."""


@contextmanager
def mapped() -> Iterator[None]:
    """Raises StoreUnavailable."""
    try:
        yield
    except UNREACHABLE as error:
        raise StoreUnavailable(type(error).__name__) from error


@asynccontextmanager
async def connection(pool: Pool, *, wait_seconds: float = ACQUIRE_SECONDS) -> AsyncIterator[Connection]:
    """Raises StoreUnavailable."""
    with mapped():
        async with pool.acquire(timeout=wait_seconds) as held:
            yield held


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Committed at the end. Raises StoreUnavailable."""
    async with connection(pool) as held, held.transaction():
        yield held
