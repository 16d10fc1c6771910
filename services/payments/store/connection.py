"""Pooled connections whose errors are ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from services.kit import store
from services.kit.postgres import Connection, borrowed
from services.kit.store import ACQUIRE_SECONDS, UNREACHABLE, Pool
from services.payments.domain import LedgerUnbalanced

__all__ = ["UNREACHABLE", "Connection", "Pool", "StoreUnavailable", "connection"]


class StoreUnavailable(store.StoreUnavailable):
    """The database cannot be reached or is too slow. If it was `begun`, a write may or may not have been committed."""

    def __init__(self, why: str, *, begun: bool = False) -> None:
        super().__init__(why)
        self.begun = begun


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A pooled connection whose errors are ours. Raises StoreUnavailable, LedgerUnbalanced, kit.deadline.DeadlineOver."""
    begun = False
    try:
        async with borrowed(pool, wait_seconds=ACQUIRE_SECONDS) as held:
            begun = True
            yield held
    except asyncpg.CheckViolationError as error:
        if error.constraint_name == "ledger_balances":
            raise LedgerUnbalanced(str(error)) from error
        raise
    except UNREACHABLE as error:
        raise StoreUnavailable(type(error).__name__, begun=begun) from error
