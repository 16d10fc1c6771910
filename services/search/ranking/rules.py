"""Business rules: pin to the top, bury at the end, exclude; for a query or a category, between two dates.

Which rule wins: an excluded product is neither pinned nor buried, a pinned one is not buried. Pins stand in the order of
their rules: a rule for the query before one for a category, then the higher priority, then the newer, then the smaller id;
within a rule in its own order. A product that two rules pin keeps its first place.

Pins come on top of what was found, also where the query does not match them; a filter that leaves them out leaves them out.
Rules change the order by relevance. Sorted by price or age only `exclude` counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from services.search.ranking.boosts import Query

Item = TypeVar("Item")

MOST_PRODUCTS = 100
"""In one rule."""
MOST_PINNED = 20
"""In one answer; further pins are left out."""
PIN = float(1 << 20)
"""Above every text score, below 2**24 / MOST_PINNED: the engine's scores are 32-bit floats."""
BURIED = 1e-6


class Action(StrEnum):
    """What a rule does with the products that it names."""

    PIN = "pin"
    BURY = "bury"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class Rule:
    """For a normalised `query`, or for a `category` path and all below it; with neither, always.

    It names `products`; `brands` and `categories` too, unless it pins. Valid from `starts_at` (included) to `ends_at`
    (not); None is open. Raises ValueError, with a sentence, for a rule that says nothing or contradicts itself.
    """

    id: str
    action: Action
    products: tuple[UUID, ...] = ()
    brands: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    query: str | None = None
    category: str | None = None
    priority: int = 0
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    changed_at: datetime | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """See the class."""
        if not (self.products or self.brands or self.categories):
            raise ValueError("A rule names at least one product, brand or category.")
        if self.action is Action.PIN and (self.brands or self.categories):
            raise ValueError("Only products can be pinned: a brand or a category has no place in a list.")
        if len(set(self.products)) < len(self.products):
            raise ValueError("A rule names a product once.")
        if max(len(self.products), len(self.brands), len(self.categories)) > MOST_PRODUCTS:
            raise ValueError(f"A rule names at most {MOST_PRODUCTS} products, brands and categories each.")
        if self.query is not None and self.category is not None:
            raise ValueError("A rule is for a query or for a category, not for both.")
        if self.query is not None and self.query != normal(self.query):
            raise ValueError("The query of a rule is kept in lower case, with single spaces.")
        if self.query == "" or self.category == "":
            raise ValueError("The query or the category of a rule is not empty.")
        if self.action is Action.PIN and self.query is None and self.category is None:
            raise ValueError("A pin is for a query or a category: nothing is on top of every answer.")
        if self.starts_at is not None and self.ends_at is not None and self.starts_at >= self.ends_at:
            raise ValueError("A rule starts before it ends.")

    def concerns(self, query: str, category: str | None, now: datetime) -> bool:
        """Whether it counts for a normalised query, asked within a category or in none."""
        if (self.starts_at is not None and now < self.starts_at) or (self.ends_at is not None and now >= self.ends_at):
            return False
        if self.query is not None:
            return self.query == query
        if self.category is not None:
            return category is not None and f"{category}/".startswith(f"{self.category}/")
        return True


@dataclass(frozen=True, slots=True)
class Effect:
    """What all rules together do to one answer. `by` are the rules that had a part in it, for the explanation."""

    pinned: tuple[UUID, ...] = ()
    buried: tuple[UUID, ...] = ()
    excluded: tuple[UUID, ...] = ()
    buried_brands: tuple[int, ...] = ()
    excluded_brands: tuple[int, ...] = ()
    buried_categories: tuple[str, ...] = ()
    excluded_categories: tuple[str, ...] = ()
    by: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.by)


def normal(query: str) -> str:
    """As rules keep it: case folded, blanks collapsed."""
    return " ".join(query.casefold().split())


def effect_of(rules: Iterable[Rule], query: str, category: str | None, now: datetime) -> Effect:
    """What the rules do for what somebody typed, in the stated order. `now` is aware."""
    typed = normal(query)
    active = sorted((rule for rule in rules if rule.concerns(typed, category, now)), key=_order)
    excluded = _unique(each for rule in active if rule.action is Action.EXCLUDE for each in rule.products)
    pinned = _unique(each for rule in active if rule.action is Action.PIN for each in rule.products)
    pinned = tuple(each for each in pinned if each not in excluded)[:MOST_PINNED]
    buried = _unique(each for rule in active if rule.action is Action.BURY for each in rule.products)
    return Effect(
        pinned=pinned,
        buried=tuple(each for each in buried if each not in excluded and each not in pinned),
        excluded=excluded,
        buried_brands=_unique(each for rule in active if rule.action is Action.BURY for each in rule.brands),
        excluded_brands=_unique(each for rule in active if rule.action is Action.EXCLUDE for each in rule.brands),
        buried_categories=_unique(each for rule in active if rule.action is Action.BURY for each in rule.categories),
        excluded_categories=_unique(
            each for rule in active if rule.action is Action.EXCLUDE for each in rule.categories
        ),
        by=tuple(rule.id for rule in active),
    )


def apply_rules(query: Query, effect: Effect) -> Query:
    """The ranked query with pins above everything, what is buried below everything, and without what is excluded."""
    burying = _named(effect.buried, effect.buried_brands, effect.buried_categories)
    if burying:
        query = {
            "function_score": {
                "query": query,
                "functions": [{"filter": {"bool": {"should": burying}}, "weight": BURIED}],
                "score_mode": "multiply",
                "boost_mode": "multiply",
            }
        }
    excluding = without(effect)
    if not effect.pinned and not excluding:
        return query
    pins = [
        {"constant_score": {"filter": {"term": {"id": str(each)}}, "boost": PIN * (len(effect.pinned) - place)}}
        for place, each in enumerate(effect.pinned)
    ]
    return {"bool": {"should": [query, *pins], "minimum_should_match": 1, "must_not": excluding}}


def without(effect: Effect) -> list[Query]:
    """Clauses that match what is excluded, for `must_not`. A pinned product of an excluded brand is excluded."""
    return _named(effect.excluded, effect.excluded_brands, effect.excluded_categories)


def _named(products: tuple[UUID, ...], brands: tuple[int, ...], categories: tuple[str, ...]) -> list[Query]:
    fields = {"id": [str(each) for each in products], "brand_id": list(brands), "categories": list(categories)}
    return [{"terms": {name: values}} for name, values in fields.items() if values]


def _order(rule: Rule) -> tuple[int, int, float, str]:
    scope = 0 if rule.query is not None else 1 if rule.category is not None else 2
    newest = -rule.changed_at.timestamp() if rule.changed_at is not None else 0.0
    return scope, -rule.priority, newest, rule.id


def _unique(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys(items))
