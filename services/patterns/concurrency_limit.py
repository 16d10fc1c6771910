"""A bound on work at once, with a bounded queue before it that serves the newest first.

Without a bound, arrivals beyond capacity make everybody slow until nobody is answered in time (goodput collapses). The
queue is last in, first out: under overload the oldest have waited longest and are the likeliest to be given up by their
callers (Maurer, "Fail at Scale", ACM Queue 2015, adaptive LIFO).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Overloaded(Exception):
    """No slot was free, and none became free in time. Nothing was begun."""


class ConcurrencyLimit:
    """`slots` at once, `queue` more wait, each at most its own `patience`. One event loop."""

    def __init__(self, slots: int, queue: int) -> None:
        if slots < 1 or queue < 0:
            raise ValueError("a limit needs one slot at least and a queue of zero or more")
        self._slots = slots
        self._queue = queue
        self._busy = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._waiting)

    @property
    def load(self) -> float:
        """What is asked of the slots: 1.0 when all are in use and nobody waits, more with a queue."""
        return (self._busy + len(self._waiting)) / self._slots

    @asynccontextmanager
    async def slot(self, patience: float) -> AsyncIterator[None]:
        """Hold a slot. Raises Overloaded if the queue is full or after `patience` seconds in it.

        A newcomer to a full queue takes the place of its oldest, who gets Overloaded at once.
        """
        if self._busy < self._slots:
            self._busy += 1
        else:
            await self._wait(patience)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, patience: float) -> None:
        if patience <= 0 or self._queue == 0:
            raise Overloaded
        while len(self._waiting) >= self._queue:
            oldest = self._waiting.pop(0)
            if not oldest.done():  # else its time is over, and it has only not had its turn to leave
                oldest.set_exception(Overloaded())
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(patience):
                await place
        except TimeoutError:
            self._leave(place)
            raise Overloaded from None
        except asyncio.CancelledError:
            self._leave(place)
            raise

    def _leave(self, place: asyncio.Future[None]) -> None:
        if place in self._waiting:
            self._waiting.remove(place)
        elif place.done() and not place.cancelled() and place.exception() is None:
            # The slot was given in the very moment of leaving.
            self._release()

    def _release(self) -> None:
        while self._waiting:
            place = self._waiting.pop()
            if not place.done():
                place.set_result(None)
                return
        self._busy -= 1
