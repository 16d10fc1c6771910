"""Group commit: charges that arrive while a commit is under way are written together by the next one.

Source of the idea: DeWitt et al., Implementation Techniques for Main Memory Database Systems (1984), section 5.2.
"""

from __future__ import annotations

import asyncio
from collections import deque

from services.kit import postgres
from services.kit.postgres import Pool
from services.simulators.bank import metrics
from services.simulators.bank.store import NewCharge, RequestLine, write_charges

LARGEST_BATCH = 256
LONGEST_QUEUE = 4_096
"""Charges waiting for a commit, and as many lines of the request log; beyond that callers are turned away."""
LINE_DELAY_SECONDS = 0.05
"""Lines of the request log wait at most so long for a charge to be committed with."""


class QueueFullError(Exception):
    """The database cannot keep up; nothing was done."""


class WriteFailedError(Exception):
    """The commit failed; whether it happened all the same is not known."""


class ChargeWriter:
    """`run` is the one loop that writes; `charge` waits until its charge is durable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._charges: deque[tuple[NewCharge, asyncio.Future[bool]]] = deque()
        self._lines: deque[RequestLine] = deque()
        self._wake = asyncio.Event()

    async def charge(self, new: NewCharge) -> bool:
        """True once committed, False if its reference was taken. Raises QueueFullError, WriteFailedError."""
        if len(self._charges) >= LONGEST_QUEUE:
            raise QueueFullError
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._charges.append((new, written))
        self._wake.set()
        return await written

    def note(self, line: RequestLine) -> None:
        """Log a call that moved no money; written with the next commit. The oldest are dropped when too many wait."""
        if len(self._lines) >= LONGEST_QUEUE:
            self._lines.popleft()
        self._lines.append(line)
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(LINE_DELAY_SECONDS, self._wake.set)

    async def run(self) -> None:
        """Write until cancelled; then write what is left."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._charges or self._lines:
                    await self._write_some()
        finally:
            while self._charges or self._lines:
                await self._write_some()

    async def _write_some(self) -> None:
        batch = [self._charges.popleft() for _ in range(min(len(self._charges), LARGEST_BATCH))]
        lines = [self._lines.popleft() for _ in range(min(len(self._lines), LARGEST_BATCH))]
        if batch:
            metrics.BATCH.observe(len(batch))
        try:
            executed = await write_charges(self._pool, [new for new, _ in batch], lines)
        except postgres.DATABASE_ERRORS as error:
            for _, written in batch:
                if not written.done():
                    written.set_exception(WriteFailedError(f"{type(error).__name__}: {error}"))
            return
        for new, written in batch:
            if not written.done():
                written.set_result(new.id in executed)
