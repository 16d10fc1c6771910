"""What the API knows without asking for it: which index is current, what is popular, what brands and categories there are.

Two loops keep it; the requests only read it. When the engine is silent, what was known last goes on counting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.patterns.concurrency_limit import Overloaded
from services.search import metrics
from services.search.engine import EngineError
from services.search.guard import Guard, SearchEngine
from services.search.query.body import names_body, popular_body
from services.search.query.filters import matches
from services.search.query.request import Filter
from services.search.query.synonyms import SynonymError, SynonymFile, fold

log = logging.getLogger(__name__)

AFTER_FAILURE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Name:
    """A brand or a category; `folded` is what a beginning is compared with."""

    kind: str
    value: str
    text: str
    folded: str
    count: int


@dataclass(frozen=True, slots=True)
class Popular:
    """A product as the index had it; `words` are those of its title, folded."""

    source: Mapping[str, Any]
    words: frozenset[str]


@dataclass(slots=True)
class Standing:
    """`index` is None until the engine has answered once."""

    index: str | None = None
    popular: tuple[Popular, ...] = ()
    names: tuple[Name, ...] = ()
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    def favourites(self, text: str, filters: Sequence[Filter], limit: int) -> list[Mapping[str, Any]]:
        """Popular products that pass the filters; those with most of the words first, if any has one."""
        wanted = set(fold(text).split())
        passing = [each for each in self.popular if all(matches(one, each.source) for one in filters)]
        named = [each for each in passing if wanted & each.words]
        best = sorted(named, key=lambda each: -len(wanted & each.words)) if named else passing
        return [each.source for each in best[:limit]]

    def named(self, text: str, limit: int) -> list[Name]:
        """Brands and categories with a word that begins so; the largest first."""
        typed = fold(text)
        if not typed:
            return []
        return [each for each in self.names if each.folded.startswith(typed) or f" {typed}" in each.folded][:limit]


async def keep_index(engine: SearchEngine, alias: str, standing: Standing, every: float) -> None:
    """Look again and again which index is behind the alias. A swap makes all that is remembered stale by this alone."""
    while True:
        try:
            found = await engine.aliases(alias)
        except EngineError as error:
            log.debug("alias not read", extra={"reason": error.reason})
        else:
            _note(standing, found[0] if found else None)
        standing.looked.set()
        await asyncio.sleep(every)


def _note(standing: Standing, index: str | None) -> None:
    if index is not None and index != standing.index:
        if standing.index is not None:
            metrics.SWAPS.inc()
            log.info("another index is current", extra={"index": index, "before": standing.index})
        standing.index = index


async def keep_popular(guard: Guard, standing: Standing, every: float) -> None:
    """Look again and again what is popular."""
    await standing.looked.wait()
    while True:
        known = False
        if standing.index is not None:
            try:
                await look(guard, standing, standing.index)
                known = bool(standing.popular)  # an index that is just being filled is looked at again soon
            except (EngineError, Overloaded) as error:
                log.debug("popular products not read", extra={"reason": str(error)})
        await asyncio.sleep(every if known else min(every, AFTER_FAILURE_SECONDS))


async def look(guard: Guard, standing: Standing, index: str) -> None:
    """Once. Raises the engine's errors and Overloaded."""
    favourites, names = await guard.msearch([(index, popular_body()), (index, names_body())], "popular")
    standing.popular = tuple(
        Popular(hit.source, frozenset(fold(str(hit.source.get("title", ""))).split())) for hit in favourites.hits.hits
    )
    buckets = [(kind, each) for kind in ("brand", "category") for each in names.aggregations[kind]["buckets"]]
    found = [_name(kind, str(each["key"]), int(each["doc_count"])) for kind, each in buckets]
    standing.names = tuple(sorted(found, key=lambda each: (-each.count, each.text)))


def _name(kind: str, value: str, count: int) -> Name:
    text = value if kind == "brand" else value.rpartition("/")[2].replace("-", " ")
    return Name(kind, value, text, fold(text), count)


async def keep_synonyms(file: SynonymFile, every: float, changed: Callable[[], None]) -> None:
    """Read the file again when it has changed, and say so."""
    while True:
        await asyncio.sleep(every)
        try:
            if await asyncio.to_thread(file.refresh):
                log.info("synonyms read again")
                changed()
        except (SynonymError, OSError) as error:
            log.warning("synonyms not read; the old ones stay", extra={"reason": str(error)})
