"""Asks again while who was asked is away or has no room: what takes an hour must not end because a query was refused once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, TypeVar
from uuid import UUID

from services.kit.deadline import DeadlineOver
from services.kit.store import StoreUnavailable
from services.patterns.backoff import Backoff
from services.search.engine import Document, Engine, EngineBusy, EngineDown, Found, Hit, scan
from services.search.store.catalog import Catalog, State

T = TypeVar("T")


class OutOfPatience(Exception):
    """It stayed away, or without room, for as long as this process waits."""


@dataclass(slots=True)
class Patience:
    """For so many `seconds` from the first try of each call."""

    seconds: float
    backoff: Backoff
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = monotonic

    async def ask(self, who: str, passing: tuple[type[Exception], ...], ask: Callable[[], Awaitable[T]]) -> T:
        """The answer. Raises OutOfPatience after errors of the kinds `passing`, and every other error at once."""
        until = self.monotonic() + self.seconds
        attempt = 0
        while True:
            try:
                return await ask()
            except passing as error:
                if self.monotonic() > until:
                    raise OutOfPatience(f"{who} did not answer for {self.seconds:g} s: {error}") from error
                await self.sleep(self.backoff.delay(attempt, self.chance))
                attempt += 1


_PASSING = (EngineBusy, EngineDown, DeadlineOver)


@dataclass(frozen=True, slots=True)
class PatientEngine:
    """Reads."""

    engine: Engine
    patience: Patience

    async def search(self, index: str, body: Any, *, within: float | None = None) -> Found:
        """See Engine.search."""
        ask = partial(self.engine.search, index, body, within=within)
        return await self.patience.ask("The engine", _PASSING, ask)

    async def mget(self, index: str, documents: Sequence[str], *, source: Any = True) -> list[Document]:
        """See Engine.mget."""
        ask = partial(self.engine.mget, index, documents, source=source)
        return await self.patience.ask("The engine", _PASSING, ask)

    def scan(self, index: str, query: Any, *, source: Any = True, page: int = 1_000) -> AsyncIterator[Hit]:
        """See Engine.scan; each page may be asked for again."""
        return scan(self.search, index, query, source=source, page=page)


@dataclass(frozen=True, slots=True)
class PatientCatalog:
    """Reads of the catalogue's database."""

    catalog: Catalog
    patience: Patience

    async def after(self, last: UUID | None, limit: int) -> State | None:
        """See Catalog.after."""
        ask = partial(self.catalog.after, last, limit)
        return await self.patience.ask("The catalogue's database", (StoreUnavailable,), ask)

    async def these(self, products: Sequence[UUID]) -> State:
        """See Catalog.these."""
        ask = partial(self.catalog.these, products)
        return await self.patience.ask("The catalogue's database", (StoreUnavailable,), ask)
