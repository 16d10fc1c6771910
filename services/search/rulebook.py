"""The business rules as one process knows them: read again when they have changed, and sorted so that a query finds its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from services.kit.store import StoreUnavailable
from services.search import metrics
from services.search.ranking.rules import Effect, Rule, effect_of, normal

log = logging.getLogger(__name__)


class RuleSource(Protocol):
    """The store, as far as the book needs it. Both raise StoreUnavailable."""

    async def generation(self) -> int: ...

    async def all(self) -> Sequence[Rule]: ...


@dataclass(slots=True)
class RuleBook:
    """Rules that are kept as they were last read: a database that is away does not take them out of force."""

    generation: int = -1
    _by_query: dict[str, list[Rule]] = field(default_factory=dict)
    _others: list[Rule] = field(default_factory=list)

    def effect(self, query: str, category: str | None, now: datetime) -> Effect:
        """What they do to one answer."""
        own = self._by_query.get(normal(query), ())
        if not own and not self._others:
            return NO_EFFECT
        return effect_of((*own, *self._others), query, category, now)

    def take(self, rules: Sequence[Rule], generation: int) -> None:
        """Replace all."""
        by_query: dict[str, list[Rule]] = {}
        for each in rules:
            if each.query is not None:
                by_query.setdefault(each.query, []).append(each)
        self._by_query, self._others = by_query, [each for each in rules if each.query is None]
        self.generation = generation
        metrics.RULES.set(len(rules))

    async def refresh(self, source: RuleSource) -> bool:
        """Read what is new; True if something was. Raises StoreUnavailable."""
        # Read before the rules: a change in between is seen next time, and none is missed.
        generation = await source.generation()
        changed = generation != self.generation
        if changed:
            self.take(await source.all(), generation)
        metrics.RULES_AGE.set_to_current_time()
        return changed


NO_EFFECT = Effect()


async def keep_rules(book: RuleBook, source: RuleSource, every: float) -> None:
    """Until cancelled."""
    while True:
        try:
            await book.refresh(source)
        except StoreUnavailable as error:
            log.warning("the rules stay as they are", extra={"error": str(error)})
        await asyncio.sleep(every)
