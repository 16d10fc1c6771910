"""The rankings of day 4 on one index: by sales, TF-IDF, BM25, boosted, personalised, and a learner's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from random import Random
from typing import Any, Protocol

import msgspec

from labs.week07 import yours_day4
from services.catalog import vocabulary as words
from services.catalog.domain import Language, Product
from services.catalog.generate import EPOCH, product_id, products
from services.catalog.judge import Form, Intent, judge
from services.catalog.judgements import lines
from services.search.engine import Engine
from services.search.evaluation.finder import EngineFinder
from services.search.evaluation.judged import HAND, Judged, read
from services.search.query.build import FIELDS, Asked, text_query
from services.search.query.parser import parse
from services.search.query.synonyms import SynonymFile
from services.search.ranking import RANKINGS, personal
from services.search.ranking.boosts import Query

SEED = 1
"""Of the catalogue that the hand-judged set is about; the run's own seed draws the questions."""
HAND_DOCS = 5_000
CANDIDATES = 100
TF_IDF: Mapping[str, Any] = {"type": "BM25", "k1": 20.0, "b": 0.0}
"""Both engines know BM25 only, and no common scripts. With a large k1 a term's weight is nearly its frequency times its idf,
and with b = 0 the length does not matter: as near to TF-IDF as both can be brought."""
CONTROL_QUESTIONS = 8


class Finder(Protocol):
    """Product ids, best first."""

    async def find(self, judged: Judged, limit: int) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class BySales:
    """What one writes first: whatever has any of the words, the best sellers on top."""

    engine: Engine
    index: str

    async def find(self, judged: Judged, limit: int) -> list[str]:
        """See Finder."""
        fields = ["title", f"description_{judged.language}", "brand.text", "category_text"]
        body = {
            "query": {"multi_match": {"query": judged.query, "fields": fields}},
            "sort": [{"popularity": "desc"}, {"id": "asc"}],
            "size": limit, "_source": False, "track_total_hits": False,
        }  # fmt: skip
        return [hit.id for hit in (await self.engine.search(self.index, body)).hits.hits]


@dataclass(frozen=True, slots=True)
class ByYours:
    """A hundred candidates by their text, in the order that yours_day4.py gives them."""

    engine: Engine
    index: str

    async def find(self, judged: Judged, limit: int) -> list[str]:
        """See Finder."""
        likes = personal(judged.interactions(EPOCH), EPOCH)
        person = yours_day4.Person(dict(likes.brands), dict(likes.categories))
        body = {"query": _text(judged), "size": CANDIDATES, "track_total_hits": False}
        hits = (await self.engine.search(self.index, body)).hits.hits
        worth = {hit.id: yours_day4.score(_candidate(hit.score, hit.source), person, EPOCH) for hit in hits}
        return sorted(worth, key=lambda each: (-worth[each], each))[:limit]


def _text(judged: Judged) -> Query:
    asked = Asked(parse(judged.query, FIELDS), judged.language)
    return text_query(asked.clauses, asked.language, RANKINGS["bm25"].weights, SynonymFile().current)


def _candidate(text: float | None, source: Mapping[str, Any]) -> yours_day4.Candidate:
    return yours_day4.Candidate(
        text=text or 0.0,
        popularity=source["popularity"],
        in_stock=source["in_stock"],
        created_at=datetime.fromisoformat(source["created_at"]),
        brand_id=source["brand_id"],
        categories=source["categories"],
    )


def finder_of(variant: str, engine: Engine, index: str) -> Finder:
    """By the name of a variant of day 4. Raises KeyError for another."""
    if variant == "popularity":
        return BySales(engine, index)
    if variant == "yours":
        return ByYours(engine, index)
    ranking = RANKINGS["bm25" if variant == "tfidf" else variant]
    return EngineFinder(engine, index, ranking, SynonymFile().current, EPOCH)


@lru_cache(maxsize=2)
def catalogue(docs: int) -> Mapping[str, Product]:
    """By id."""
    return {str(each.id): each for each in products(SEED, docs)}


def drawn(seed: int, docs: int, count: int, of: int) -> list[Judged]:
    """`count` of the generator's queries, drawn by the run's seed."""
    return Random(seed).sample(_generated(docs, of), count)  # noqa: S311  not for secrets


@lru_cache(maxsize=2)
def _generated(docs: int, count: int) -> list[Judged]:
    return [msgspec.json.decode(line, type=Judged) for line in lines(SEED, count, docs)]


def by_hand() -> list[Judged]:
    """The judged set of the repository."""
    return read(HAND)


@lru_cache(maxsize=2)
def single_words(docs: int) -> list[Judged]:
    """Nouns that mean one thing only, in whichever language: what a catalogue sorted by sales can answer, too."""
    seen = [word for leaf in words.LEAVES for nouns in leaf.nouns.values() for word in " ".join(nouns).lower().split()]
    intents = [
        Intent(leaf.nouns[Language.EN][0], Form.NOUN, Language.EN, number)
        for number, leaf in enumerate(words.LEAVES)
        if seen.count(leaf.nouns[Language.EN][0]) == 1
    ]
    judged = judge(SEED, intents[:CONTROL_QUESTIONS], docs, most=None)
    return [
        Judged(each.intent.text, "noun", "en", {str(product_id(SEED, number)): grade for number, grade in each.grades})
        for each in judged
    ]


def strangers(judged: Sequence[Judged]) -> list[Judged]:
    """The same questions, asked by nobody in particular."""
    return [msgspec.structs.replace(each, history=[]) for each in judged]


def with_rules(finder: Finder, rules: Sequence[Any]) -> Finder:
    """The same finder with business rules in force. Raises TypeError for one that knows none."""
    if not isinstance(finder, EngineFinder):
        raise TypeError(f"{type(finder).__name__} knows no business rules")
    return replace(finder, rules=rules)
