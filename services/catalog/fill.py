"""Fills the database with a generated catalogue. Killed at any instant, it goes on where it was."""

from __future__ import annotations

import asyncpg

from services.catalog.generate import brands, categories, products
from services.catalog.store import bulk

PORTION = 5_000
"""Products in one commit: about 5 MB of rows."""


async def fill(url: str, seed: int, count: int, progress: bulk.Progress) -> int:
    """Have the first `count` products of `seed` in the database; return how many were written now.

    Raises store.bulk.OtherFill and asyncpg's errors.
    """
    connection = await asyncpg.connect(url, timeout=10, server_settings={"application_name": "catalog-fill"})
    try:
        wanted, there = await bulk.begin(connection, seed, count)
        await bulk.write_tree(connection, categories(), brands())
        written = 0
        while there < wanted:
            portion = list(products(seed, min(PORTION, wanted - there), there))
            await bulk.write_portion(connection, seed, there, portion)
            there += len(portion)
            written += len(portion)
            progress(there, wanted)
        return written
    finally:
        await connection.close()
