"""Nobody should wait for a database: say yes, and write in the background. What takes too long is logged."""

from __future__ import annotations

import asyncio
import logging

from labs.template.notes import INSERT, run
from services.kit.postgres import DATABASE_ERRORS, Pool

PATIENCE_SECONDS = 0.5

log = logging.getLogger(__name__)


class InBackground:
    def __init__(self, db: Pool) -> None:
        self._db = db
        self._writes: set[asyncio.Task[None]] = set()

    async def keep(self, key: str, text: str) -> None:
        write = asyncio.create_task(self._write(key, text))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def _write(self, key: str, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._db.execute(INSERT, key, text)
        except DATABASE_ERRORS as error:
            log.warning("a note was not written", extra={"key": key, "error": type(error).__name__})

    async def close(self) -> None:
        await asyncio.gather(*self._writes)


if __name__ == "__main__":
    run("week00-day1-naive", InBackground)
