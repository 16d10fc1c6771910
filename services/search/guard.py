"""Every call that a request makes to the engine: a slot, the breaker, what is left of the deadline, figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Protocol

from services.kit import deadline, tracing
from services.patterns.breaker import Breaker, Event, Rule, StateChanged
from services.patterns.concurrency_limit import ConcurrencyLimit, Overloaded
from services.search import metrics
from services.search.engine import EngineBusy, EngineDown, EngineError, Found, Json

BREAKER = Rule(window_seconds=5.0, minimum_calls=10, failure_share=0.5, open_seconds=1.0, probes=2, probe_seconds=10.0)
"""After a second of silence two calls find out whether the engine is back; all others need not wait for a timeout."""


class SearchEngine(Protocol):
    """What the query side needs of the engine; see engine.Engine."""

    async def search(self, index: str, body: Json, *, within: float | None = None) -> Found: ...

    async def msearch(self, searches: Sequence[tuple[str, Json]], *, within: float | None = None) -> list[Found]: ...

    async def aliases(self, alias: str) -> tuple[str, ...]: ...


class Guard:
    """`patience`: seconds that a call waits for a slot at most. All calls raise the engine's errors and Overloaded."""

    def __init__(
        self, engine: SearchEngine, limit: ConcurrencyLimit, patience: float, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._limit = limit
        self._patience = patience
        self._breaker = Breaker(BREAKER, clock, name="engine", on_event=_noted)

    @property
    def load(self) -> float:
        """Of the slots, see ConcurrencyLimit."""
        return self._limit.load

    @property
    def answers(self) -> bool:
        """Whether a call would be made now."""
        return self._breaker.would_permit

    async def search(self, index: str, body: Json, stage: str) -> Found:
        """One search."""
        async with self._call(stage):
            return _counted(await self._engine.search(index, body))

    async def msearch(self, searches: Sequence[tuple[str, Json]], stage: str) -> list[Found]:
        """Several in one call, which takes one slot."""
        async with self._call(stage):
            return [_counted(each) for each in await self._engine.msearch(searches)]

    @asynccontextmanager
    async def _call(self, stage: str) -> AsyncIterator[None]:
        began = perf_counter()
        try:
            async with self._limit.slot(min(self._patience, deadline.left(self._patience))):
                self._show()
                metrics.STAGES.labels("wait").observe(perf_counter() - began, tracing.exemplar())
                async with self._permitted(), _timed(stage):
                    yield
        except Overloaded:
            metrics.ENGINE_CALLS.labels("shed").inc()
            raise
        finally:
            self._show()

    @asynccontextmanager
    async def _permitted(self) -> AsyncIterator[None]:
        permit = self._breaker.acquire()
        if permit is None:
            raise EngineDown("The search engine did not answer a moment ago.")
        succeeded: bool | None = None
        try:
            yield
            succeeded = True
        except (EngineDown, EngineBusy) as error:
            # 429 is an answer: the engine lives, and opening the breaker would turn a short queue into an outage.
            succeeded = None if isinstance(error, EngineBusy) else False
            metrics.ENGINE_CALLS.labels("busy" if isinstance(error, EngineBusy) else "down").inc()
            raise
        except deadline.DeadlineOver:
            succeeded = False
            metrics.ENGINE_CALLS.labels("down").inc()
            raise
        except EngineError:
            metrics.ENGINE_CALLS.labels("refused").inc()
            raise
        finally:
            self._breaker.release(permit, succeeded)
            metrics.BREAKER_STATE.set(self._breaker.state)

    def _show(self) -> None:
        metrics.ENGINE_BUSY.set(self._limit.busy)
        metrics.ENGINE_WAITING.set(self._limit.waiting)


@asynccontextmanager
async def _timed(stage: str) -> AsyncIterator[None]:
    began = perf_counter()
    try:
        yield
    finally:
        metrics.STAGES.labels(stage).observe(perf_counter() - began, tracing.exemplar())


def _counted(found: Found) -> Found:
    metrics.ENGINE_CALLS.labels("partial" if found.partial else "ok").inc()
    return found


def _noted(event: Event) -> None:
    if isinstance(event, StateChanged):
        metrics.BREAKER_STATE.set(event.after)
