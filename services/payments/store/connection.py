"""Pooled connections whose errors are ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg

from services.payments.domain import LedgerUnbalanced

# Quoted: asyncpg's classes are generic in its stubs only.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_SECONDS = 2.0
"""How long a request waits for a connection."""


class StoreUnavailable(Exception):
    """The database cannot be reached or is too slow. A write may or may not have been committed."""


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


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A pooled connection whose errors are ours. Raises StoreUnavailable, LedgerUnbalanced."""
    try:
        async with pool.acquire(timeout=ACQUIRE_SECONDS) as held:
            yield held
    except asyncpg.CheckViolationError as error:
        if error.constraint_name == "ledger_balances":
            raise LedgerUnbalanced(str(error)) from error
        raise
    except UNREACHABLE as error:
        raise StoreUnavailable(type(error).__name__) from error
