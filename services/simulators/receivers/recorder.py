"""Group commit: requests that arrive while a commit is under way are written together by the next one.

Source of the idea: DeWitt et al., Implementation Techniques for Main Memory Database Systems (1984), section 5.2.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias

from services.kit import postgres
from services.kit.postgres import Pool
from services.simulators.receivers import metrics

LARGEST_BATCH = 512
LONGEST_QUEUE = 10_000
"""Requests waiting for a commit; beyond that receivers turn them away."""


class Line(NamedTuple):
    """A row of `requests`: a tuple, as COPY takes it."""

    receiver: int
    webhook_id: str | None
    event_id: str | None
    at: datetime
    status: int | None
    verified: bool
    behaviour: str | None


Answer: TypeAlias = Callable[[bool], None]
"""Told True once the line is durable, False if nobody knows."""


class Records(Protocol):
    """What takes the lines of the receivers."""

    def record(self, line: Line, answer: Answer) -> bool:
        """Write the line, then call `answer`. False if too many wait; then nothing is written or called."""


class Forgetful:
    """Writes nothing: for benchmarks, in which the receivers' commits would be measured with the sender."""

    def record(self, line: Line, answer: Answer) -> bool:
        """Answer at once."""
        del line
        answer(True)
        return True


class Recorder:
    """`run` is the one loop that writes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[tuple[Line, Answer]] = deque()
        self._wake = asyncio.Event()

    def record(self, line: Line, answer: Answer) -> bool:
        """As `Records`."""
        if len(self._waiting) >= LONGEST_QUEUE:
            return False
        self._waiting.append((line, answer))
        self._wake.set()
        return True

    async def run(self) -> None:
        """Write until cancelled; then write what is left."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._write_some()
        finally:
            while self._waiting:
                await self._write_some()

    async def _write_some(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_BATCH))]
        metrics.BATCH.observe(len(batch))
        try:
            async with self._pool.acquire() as connection:
                await connection.copy_records_to_table(
                    "requests", records=[line for line, _ in batch], columns=list(Line._fields)
                )
            durable = True
        except postgres.DATABASE_ERRORS:
            durable = False
        for _, answer in batch:
            answer(durable)
