"""The one way into the index: documents of a state of the database, each with the version of its snapshot.

A bulk request is bounded in bytes. What the engine could not take now (429, no answer, a shard that moves) is sent again after
a pause, and nothing is left out: only what it will never take is returned as refused.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol, TypeVar
from uuid import UUID

from services.kit.deadline import DeadlineOver
from services.patterns.backoff import Backoff
from services.patterns.dlq import Unprocessable
from services.search import metrics
from services.search.documents import Row, document, encoded
from services.search.engine import EngineBusy, EngineDown, EngineRefused, Fate, Write, Written
from services.search.indices import fields_of
from services.search.patience import OutOfPatience
from services.search.store.catalog import State

log = logging.getLogger(__name__)

MALFORMED = "malformed_product"
T = TypeVar("T")


class Bulk(Protocol):
    """The part of an Engine that is needed here."""

    async def bulk(
        self, writes: Sequence[Write], *, refresh: bool = False, within: float | None = None
    ) -> list[Written]:
        """See Engine.bulk."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A product that an index does not have, and never will as it is. `kind` is a stable word; `index` empty for all."""

    product: UUID
    index: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`done` and `newer` count writes; a product written to two indices counts twice."""

    done: int = 0
    newer: int = 0
    refused: tuple[Refused, ...] = ()


@dataclass(slots=True)
class Writer:
    """`patience` in seconds; None waits for ever."""

    engine: Bulk
    bulk_bytes: int
    timeout: float
    backoff: Backoff
    patience: float | None = None
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = monotonic

    async def write(self, state: State, indices: Sequence[str]) -> Outcome:
        """Make `indices` show this state, unless they show a later one. Raises OutOfPatience."""
        refused: list[Refused] = []
        writes: list[Write] = []
        for each in _writes(state, indices):
            (writes if isinstance(each, Write) else refused).append(each)  # type: ignore[arg-type]  # told apart by the line before
        fates = [fate for chunk in chunks(writes, self.bulk_bytes) for fate in await self._send(chunk)]
        for fate in fates:
            metrics.WRITES.labels(fate.fate.value).inc()
            if fate.fate is Fate.REFUSED:
                refused.append(Refused(UUID(fate.id), fate.index, fate.kind, fate.reason))
        done, newer = (sum(each.fate is kind for each in fates) for kind in (Fate.DONE, Fate.NEWER_THERE))
        return Outcome(done, newer, tuple(refused))

    async def _send(self, writes: list[Write]) -> list[Written]:
        settled: list[Written] = []
        until = None if self.patience is None else self.monotonic() + self.patience
        attempt = 0
        while writes:
            answers, reason = await self._attempt(writes)
            again = {Fate.BUSY, Fate.FAILED}
            settled += [each for each in answers if each.fate not in again]
            if answers:
                pairs = zip(writes, answers, strict=True)
                writes = [write for write, answer in pairs if answer.fate in again]
            if not writes:
                break
            if until is not None and self.monotonic() > until:
                raise OutOfPatience(f"The engine did not take {len(writes)} documents for {self.patience:g} s.")
            metrics.PUSHBACK.labels(reason).inc()
            if attempt % 10 == 0:
                log.warning("the engine takes no more now", extra={"reason": reason, "documents": len(writes)})
            await self.sleep(self.backoff.delay(attempt, self.chance))
            attempt += 1
        return settled

    async def _attempt(self, writes: list[Write]) -> tuple[list[Written], str]:
        """What became of each; none if the request as a whole failed. And why it must be tried again, if it must."""
        metrics.BULK_DOCUMENTS.observe(len(writes))
        try:
            with metrics.BULK_SECONDS.time():
                answers = await self.engine.bulk(writes, within=self.timeout)
        except EngineBusy:
            return [], "busy"
        except (EngineDown, DeadlineOver):
            return [], "down"
        except EngineRefused as why:
            if len(writes) == 1:
                return [Written(writes[0].index, writes[0].id, Fate.REFUSED, why.kind, why.reason)], ""
            return await self._halves(writes)
        return answers, "busy" if any(each.fate is Fate.BUSY for each in answers) else "failed"

    async def _halves(self, writes: list[Write]) -> tuple[list[Written], str]:
        """Each half by itself, so that one document that spoils a request costs nothing but itself."""
        middle = len(writes) // 2
        found: list[Written] = []
        reasons = ""
        for half in (writes[:middle], writes[middle:]):
            answers, reason = await self._attempt(half)
            reasons = reason or reasons
            found += answers or [Written(each.index, each.id, Fate.FAILED) for each in half]
        return found, reasons


def _writes(state: State, indices: Sequence[str]) -> Iterator[Write | Refused]:
    version = state.snapshot.version
    for product, row in state.products.items():
        whole: Row | None = None
        if row is not None:
            try:
                whole = document(row)
            except Unprocessable as why:
                yield Refused(product, "", why.reason, why.detail)
                continue
        for index in indices:
            body = None if whole is None else encoded(whole, fields_of(index))
            yield Write(index, str(product), version, body)


def chunks(writes: Sequence[Write], limit: int) -> Iterator[list[Write]]:
    """In their order, each of at most `limit` bytes or of one write."""
    chunk: list[Write] = []
    size = 0
    for each in writes:
        more = len(each.body or b"") + 200
        if chunk and size + more > limit:
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += more
    if chunk:
        yield chunk
