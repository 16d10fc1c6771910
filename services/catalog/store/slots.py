"""The replication slot that the connector reads from, as the database sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import asyncpg

from services.kit import postgres
from services.kit.store import StoreUnavailable, mapped

STATEMENT_SECONDS = 5.0
LOST = "lost"

_LOOK = """
    SELECT active, wal_status, (confirmed_flush_lsn - '0/0')::bigint,
        coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint,
        coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, safe_wal_size
    FROM pg_replication_slots WHERE slot_name = $1
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """`wal_status` as in pg_replication_slots. `confirmed` is a position in the log: what is before it is not sent again. Bytes: `lag` not confirmed, `retained` kept on disk, `safe` until it is lost.

    `safe` None: there is no bound (max_slot_wal_keep_size = -1), or it is lost already.
    """

    active: bool
    wal_status: str | None
    confirmed: int | None
    lag: int
    retained: int
    safe: int | None

    @property
    def lost(self) -> bool:
        """The log that it needs is gone."""
        return self.wal_status == LOST


class Slots:
    """A connection of its own, opened when it is needed. Raises StoreUnavailable everywhere."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._terminate()

    async def look(self, name: str) -> Slot | None:
        """None: there is no such slot."""
        try:
            with mapped():
                row = await (await self._connected()).fetchrow(_LOOK, name)
        except StoreUnavailable:
            self._terminate()
            raise
        return None if row is None else Slot(*row)

    async def drop(self, name: str) -> bool:
        """False: somebody reads from it. One that is gone already is dropped, too."""
        try:
            with mapped():
                await (await self._connected()).execute("SELECT pg_drop_replication_slot($1)", name)
        except asyncpg.UndefinedObjectError:
            return True
        except asyncpg.ObjectInUseError:
            return False
        except StoreUnavailable:
            self._terminate()
            raise
        return True

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url,
                timeout=postgres.CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                server_settings={"application_name": "catalog-connector"},
            )
        return self._connection

    def _terminate(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
