"""Connections that wait for nobody: one's own, outside the pool."""

from __future__ import annotations

import asyncpg

from services.kit import postgres
from services.kit.store import mapped

STATEMENT_SECONDS = 5.0


async def connect(url: str, name: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection of one's own, to be terminated by who asked for it. Raises StoreUnavailable.

    The server ends it soon after the client is gone, so that nothing of a dead process lingers there.
    """
    with mapped():
        return await asyncpg.connect(
            url,
            timeout=postgres.CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS + 1,
            server_settings={
                "application_name": name,
                "statement_timeout": str(round(STATEMENT_SECONDS * 1000)),
                # Tables that were empty when they were last analysed are full a minute later; all statements have an index.
                "enable_seqscan": "off",
                "tcp_keepalives_idle": "3",
                "tcp_keepalives_interval": "1",
                "tcp_keepalives_count": "3",
            },
        )
