"""The click log: what people did with what they were shown, to Kafka, at least once and never in anybody's way.

A click is taken into a bounded buffer while its request is answered; a loop sends batches and lets go of a click only when
the broker has acknowledged it. When the buffer is full, the newest clicks are dropped and counted: a shop that cannot write
its log still sells. What is in the buffer when the process is killed is lost, too; a purchase is booked elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
from aiokafka.errors import KafkaError

from services.contracts.search import CLICK_EVENT, Click
from services.contracts.topics import SEARCH_CLICKS
from services.kit import ids
from services.kit.kafka import EventHead, Headers
from services.patterns.backoff import Backoff
from services.search import metrics
from services.search.ranking.personal import Kind

log = logging.getLogger(__name__)

PRODUCT = "prd"
BATCH = 200
SOURCE = "/search"


@dataclass(frozen=True, slots=True)
class Seen:
    """One click as it was told. `id` stays the same however often it is sent."""

    id: UUID
    person: str
    kind: Kind
    product: UUID
    at: datetime
    query: str | None = None
    position: int | None = None
    ranking: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a product belongs."""

    brand_id: int
    category: str


class Sender(Protocol):
    """Kafka, as far as the log needs it. `ready` is called before each batch; both raise aiokafka's errors."""

    async def ready(self) -> None: ...

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes | None, headers: Headers) -> object: ...


Places = Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, Place]]]
"""Of products, as far as they are known. Raises nothing: a click without its place is still a click."""


@dataclass(slots=True)
class ClickLog:
    """`most` clicks wait at once. `run` sends them until it is cancelled; `drain` waits until all are gone."""

    sender: Sender
    places: Places
    prefix: str
    most: int
    backoff: Backoff
    chance: random.Random
    _waiting: deque[Seen] = field(default_factory=deque)
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _empty: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, clicks: Sequence[Seen]) -> int:
        """How many were taken; the rest is dropped and counted. Never waits."""
        room = max(0, self.most - len(self._waiting))
        taken = clicks[:room]
        self._waiting.extend(taken)
        if taken:
            self._some.set()
        metrics.CLICKS.labels("taken").inc(len(taken))
        metrics.CLICKS.labels("dropped").inc(len(clicks) - len(taken))
        metrics.CLICKS_WAITING.set(len(self._waiting))
        return len(taken)

    async def run(self) -> None:
        """Until cancelled. A broker that is away is asked again, later and later."""
        failures = 0
        while True:
            await self._some.wait()
            batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
            try:
                await self._send(batch)
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning("clicks wait for the broker", extra={"error": type(error).__name__})
                metrics.CLICKS.labels("retried").inc(len(batch))
                await asyncio.sleep(self.backoff.delay(failures, self.chance))
                failures += 1
                continue
            failures = 0
            for _ in batch:
                self._waiting.popleft()
            metrics.CLICKS.labels("sent").inc(len(batch))
            metrics.CLICKS_WAITING.set(len(self._waiting))
            if not self._waiting:
                self._some.clear()
                self._empty.set()

    async def drain(self, within: float) -> int:
        """Wait until the buffer is empty, at most so many seconds; how many are left. `run` must run meanwhile."""
        if self._waiting:
            self._empty.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), within)
        return len(self._waiting)

    async def _send(self, batch: Sequence[Seen]) -> None:
        await self.sender.ready()
        known = await self.places(list({each.product for each in batch}))
        sent = [self._one(each, known.get(each.product)) for each in batch]
        await asyncio.gather(*sent)

    async def _one(self, seen: Seen, place: Place | None) -> None:
        person = seen.person
        body = Click(
            person=person,
            kind=seen.kind.value,
            product=ids.encode(PRODUCT, seen.product),
            at=seen.at,
            brand_id=place.brand_id if place else None,
            category=place.category if place else None,
            query=seen.query,
            position=seen.position,
            ranking=seen.ranking,
        )
        head = EventHead(id=str(seen.id), type=CLICK_EVENT, source=SOURCE, subject=body.product, time=seen.at)
        topic = self.prefix + SEARCH_CLICKS.name
        await self.sender.send_and_wait(topic, msgspec.json.encode(body), key=person.encode(), headers=head.headers())
