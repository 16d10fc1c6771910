"""How soon is a change found? A product of its own is changed every second, and searches are asked until they show it.

Its stock counts the changes. A change's time runs from when its commit was acknowledged to the first search, by the alias that
queries read, that shows it or a later one. What is not seen yet shows in a gauge, since a histogram of what has arrived says
nothing about what never does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import FastAPI

from services.kit import postgres
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.kit.store import Pool, StoreUnavailable
from services.search import metrics
from services.search.documents import CANARY
from services.search.engine import Engine, EngineError, Found, NotThere
from services.search.indices import READ
from services.search.settings import CanarySettings
from services.search.store.canary import CanaryStore, NoCatalogue

log = logging.getLogger(__name__)

MOST_PENDING = 3_600
"""Changes that no search shows yet; of more the oldest is kept, and those after it are not counted twice."""


LOOKS = 20
"""An engine that has just come back is not asked twenty times a second for what is half a minute late."""


class Searches(Protocol):
    """The part of an Engine that the canary needs."""

    async def search(self, index: str, body: Any, *, within: float | None = None) -> Found: ...


@dataclass(slots=True)
class Sightings:
    """Changes by number, and when each was committed (monotonic seconds). Pure."""

    pending: deque[tuple[int, float]] = field(default_factory=deque)

    def committed(self, number: int, at: float) -> None:
        """Numbers grow."""
        if len(self.pending) < MOST_PENDING:
            self.pending.append((number, at))

    def seen(self, number: int, at: float) -> list[float]:
        """How long each change took that this sighting shows for the first time, in seconds."""
        took = []
        while self.pending and self.pending[0][0] <= number:
            took.append(at - self.pending.popleft()[1])
        return took

    def oldest(self, now: float) -> float:
        """Age of the oldest change that nothing shows, 0 if there is none."""
        return now - self.pending[0][1] if self.pending else 0.0


@dataclass(slots=True)
class Canary:
    """Two loops; times in seconds."""

    store: CanaryStore
    engine: Searches
    alias: str
    interval: float
    poll: float
    clock: Clock
    sightings: Sightings = field(default_factory=Sightings)

    async def change(self) -> None:
        """Change the product again and again, at the interval whatever a change takes."""
        next_at = self.clock.monotonic()
        while True:
            try:
                number = await self.store.change()
                self.sightings.committed(number, self.clock.monotonic())
                metrics.CANARY_CHANGES.labels("committed").inc()
            except (StoreUnavailable, NoCatalogue) as error:
                metrics.CANARY_CHANGES.labels("failed").inc()
                log.warning("the canary was not changed", extra={"error": str(error)})
            now = self.clock.monotonic()
            next_at = max(next_at + self.interval, now)
            await asyncio.sleep(next_at - now)

    async def look(self) -> None:
        """Ask searches for what they show."""
        while True:
            await self.look_once()
            await asyncio.sleep(self.pause())

    def pause(self) -> float:
        """Until the next look: the longer nothing was seen the more seldom, to a twentieth of that time."""
        return max(self.poll, self.sightings.oldest(self.clock.monotonic()) / LOOKS)

    async def look_once(self) -> None:
        """One search, if there is anything to look for."""
        if self.sightings.pending:
            body = {
                "size": 1, "query": {"term": {"id": str(CANARY)}}, "_source": ["stock"], "track_total_hits": False,
            }  # fmt: skip
            try:
                hits = (await self.engine.search(self.alias, body)).hits.hits
            except NotThere:
                hits = []
            except EngineError as error:
                log.warning("the engine is away", extra={"error": error.reason})
                hits = []
            for hit in hits:
                for took in self.sightings.seen(int(hit.source["stock"]), self.clock.monotonic()):
                    metrics.FRESHNESS.observe(took)
        metrics.OLDEST_UNSEEN.set(self.sightings.oldest(self.clock.monotonic()))


def create_worker(
    process: ProcessSettings, settings: CanarySettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The canary process."""
    tasks, time = Tasks(), clock or SystemClock()
    current = Current[Pool]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine = Engine(settings.engine_urls, timeout=settings.engine_timeout_seconds, connections=2)
        url = settings.canary_database_url.get_secret_value()
        async with engine, await postgres.create_pool(url, name="search-canary", minimum=1, maximum=2) as pool:
            canary = Canary(
                CanaryStore(pool),
                engine,
                process.lab_prefix + READ,
                settings.canary_interval_seconds,
                settings.canary_poll_seconds,
                time,
            )
            with current.holding(pool):
                tasks.start("change", canary.change())
                tasks.start("look", canary.look())
                yield
                await tasks.stop()

    checks = {"database": current.ready(postgres.answers)}
    return service_app("search-canary", process, lifespan=lifespan, checks=checks), tasks
