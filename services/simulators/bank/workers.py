"""A bank of fixed capacity: charges wait in one unbounded first-in-first-out queue for one of so many workers.

A charge whose caller has hung up keeps its place and takes its worker's time all the same, as in a system that knows no
deadlines. Only charges queue; questions about an operation and cancellations do not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from services.kit.errors import Problem
from services.simulators.bank import metrics
from services.simulators.bank.bank import Result
from services.simulators.bank.behaviours import Switchboard, Workers
from services.simulators.bank.call import Call

log = logging.getLogger(__name__)

NAME = "workers"
ARRIVED = "arrived"
"""Outcome of the line that the request log gets when a charge joins the queue; a second line tells how it was served."""
SWITCHED_OFF_CAPACITY = 256
"""Once the behaviour is off what still waits is served at once, so many at a time: the writer's queue has a bound."""


class HungUp(Problem):
    def __init__(self) -> None:
        super().__init__(499, "client_closed_request", "The caller has left; the charge keeps its place in the queue")


class Queued:
    """A charge in the queue. Small, and without the request: an overloaded bank holds tens of thousands."""

    __slots__ = ("answer", "call", "command")

    def __init__(self, call: Call, command: Callable[[], Awaitable[Result]]) -> None:
        self.call = call
        self.command = command
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def settle(self, work: asyncio.Task[Result]) -> None:
        """Hand the outcome to the caller, if there still is one."""
        error = None if work.cancelled() else work.exception()
        if self.answer.done():
            if error is not None and not isinstance(error, Problem):
                log.error("a charge without a caller failed", exc_info=error)
        elif work.cancelled():
            self.answer.cancel()
        elif error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(work.result())


class WorkerPool:
    """Reads the behaviour `workers` whenever it begins a charge, so that a change of it never loses the queue."""

    def __init__(self, switches: Switchboard) -> None:
        self._switches = switches
        self._queue: deque[Queued] = deque()
        self._working: set[asyncio.Task[Result]] = set()

    @property
    def used(self) -> bool:
        """Charges have to queue: the behaviour is on, or a queue of before has not been worked off."""
        return bool(self._queue) or self._switches.active(NAME) is not None

    async def serve(
        self, call: Call, command: Callable[[], Awaitable[Result]], hung_up: Callable[[], Awaitable[object]]
    ) -> Result:
        """What the command gave once a worker had executed it. Raises what it raised.

        Raises HungUp as soon as `hung_up` returns; the charge stays in the queue.
        """
        call.note(ARRIVED)
        queued = Queued(call, command)
        self._queue.append(queued)
        self.wake()
        left = asyncio.ensure_future(hung_up())
        try:
            await asyncio.wait((queued.answer, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
        if queued.answer.done():
            return queued.answer.result()
        queued.answer.cancel()
        raise HungUp

    def wake(self) -> None:
        """Begin as many charges as there are free workers."""
        found = self._switches.parameters(NAME, Workers)
        capacity = found[1].count if found else SWITCHED_OFF_CAPACITY
        while self._queue and len(self._working) < capacity:
            queued = self._queue.popleft()
            work = asyncio.create_task(self._execute(queued))
            self._working.add(work)
            work.add_done_callback(partial(self._executed, queued))
        metrics.QUEUED.set(len(self._queue))

    async def _execute(self, queued: Queued) -> Result:
        found = self._switches.parameters(NAME, Workers)
        if found is not None:
            behaviour, workers = found
            if workers.factor != 1:
                queued.call.strike(behaviour)
            await asyncio.sleep(workers.service_ms * workers.factor / 1000)
        return await queued.command()

    def _executed(self, queued: Queued, work: asyncio.Task[Result]) -> None:
        self._working.discard(work)
        queued.settle(work)
        if not work.cancelled():
            self.wake()

    async def stop(self) -> None:
        """End the charges that are being worked on, and forget the queue."""
        self._queue.clear()
        for work in self._working:
            work.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
