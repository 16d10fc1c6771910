"""How far a reindex is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.kit.store import Pool
from services.search.store.connection import connection

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended($1, 0))"
_COLUMNS = "id, index_name, mapping, state, last_id, copied, repaired, started_at, updated_at"
_ACTIVE = f"SELECT {_COLUMNS} FROM reindexes WHERE prefix = $1 AND state IN ('copying', 'verifying', 'ready')"  # noqa: S608
_RECENT = f"SELECT {_COLUMNS} FROM reindexes WHERE prefix = $1 ORDER BY id DESC LIMIT $2"  # noqa: S608
_BEGIN = f"""
    INSERT INTO reindexes (prefix, index_name, mapping, state) VALUES ($1, $2, $3, 'copying') RETURNING {_COLUMNS}
"""  # noqa: S608
_COPIED = "UPDATE reindexes SET last_id = $2, copied = copied + $3, updated_at = clock_timestamp() WHERE id = $1"
_STATE = "UPDATE reindexes SET state = $2, repaired = repaired + $3, updated_at = clock_timestamp() WHERE id = $1"


class ReindexState(StrEnum):
    """COPYING, VERIFYING, READY (waits for its swap), then SWAPPED; or ABANDONED from any of the first three."""

    COPYING = "copying"
    VERIFYING = "verifying"
    READY = "ready"
    SWAPPED = "swapped"
    ABANDONED = "abandoned"


class AnotherAtWork(Exception):
    """Another process works on this reindex."""


@dataclass(frozen=True, slots=True)
class Reindex:
    """`last_id`: all products up to it are copied."""

    id: int
    index_name: str
    mapping: int
    state: ReindexState
    last_id: UUID | None
    copied: int
    repaired: int
    started_at: datetime
    updated_at: datetime


class ReindexStore:
    """Of one installation (`prefix`). Every method raises StoreUnavailable."""

    def __init__(self, pool: Pool, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """No other process works on a reindex while the block runs; a killed one's right ends with its connection.

        Raises AnotherAtWork.
        """
        name = f"search reindex {self._prefix}"
        async with connection(self._pool) as held:
            if not await held.fetchval(_LOCK, name):
                raise AnotherAtWork("Another process reindexes at this moment.")
            try:
                yield
            finally:
                if not held.is_closed():
                    await held.fetchval(_UNLOCK, name)

    async def active(self) -> Reindex | None:
        """The one that was begun and neither swapped nor abandoned."""
        async with connection(self._pool) as held:
            row = await held.fetchrow(_ACTIVE, self._prefix)
        return None if row is None else _reindex(dict(row))

    async def recent(self, limit: int = 5) -> list[Reindex]:
        """Newest first."""
        async with connection(self._pool) as held:
            return [_reindex(dict(row)) for row in await held.fetch(_RECENT, self._prefix, limit)]

    async def begin(self, index_name: str, mapping: int) -> Reindex:
        """One that copies from the start."""
        async with connection(self._pool) as held:
            row = await held.fetchrow(_BEGIN, self._prefix, index_name, mapping)
        assert row is not None
        return _reindex(dict(row))

    async def copied(self, reindex: int, last: UUID, documents: int) -> None:
        """All products up to `last` are in the new index."""
        async with connection(self._pool) as held:
            await held.execute(_COPIED, reindex, last, documents)

    async def move(self, reindex: int, state: ReindexState, repaired: int = 0) -> None:
        """Into the next state."""
        async with connection(self._pool) as held:
            await held.execute(_STATE, reindex, state.value, repaired)


def _reindex(row: dict[str, object]) -> Reindex:
    return Reindex(**{**row, "state": ReindexState(str(row["state"]))})  # type: ignore[arg-type]  # the columns are the fields
