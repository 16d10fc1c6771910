"""Answers of the search API."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from services.search.query.filters import Facet


class HitView(Struct, frozen=True, omit_defaults=True):
    """A product: what `fields` asked for. `price` in cents; `highlight` is HTML, escaped, with <mark>."""

    id: str
    score: float | None = None
    pinned: bool = False
    sku: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    brand: str | UnsetType = UNSET
    category: str | UnsetType = UNSET
    attributes: dict[str, list[str]] | UnsetType = UNSET
    price: int | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    in_stock: bool | UnsetType = UNSET
    stock: int | UnsetType = UNSET
    popularity: int | UnsetType = UNSET
    language: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    highlight: dict[str, str] | UnsetType = UNSET


class TotalView(Struct, frozen=True):
    """`gte`: so many at least; nobody counted further."""

    value: int
    relation: Literal["eq", "gte"]


class WordView(Struct, frozen=True):
    """How a word of the query was found in a product."""

    word: str
    how: Literal["exact", "typo", "synonym", "missing"]


class BoostView(Struct, frozen=True):
    """A factor that the text score was multiplied by."""

    name: str
    factor: float


class TierView(Struct, frozen=True):
    """A constant on top: `exact` for every word as typed, `number` for a model or article number."""

    name: str
    constant: float


class ExplanationView(Struct, frozen=True):
    """score = tiers + text × boosts, unless a rule pinned or buried the product. `engine` is the engine's own account."""

    id: str
    score: float
    tiers: list[TierView]
    text: float
    boosts: list[BoostView]
    words: list[WordView]
    rules: list[str]
    engine: dict[str, Any]


class SearchAnswer(Struct, frozen=True, omit_defaults=True):
    """`total`, `facets` and `did_you_mean` come with the first page only. `degraded` names what this answer lacks."""

    hits: list[HitView]
    matching: Literal["exactly", "loosely", "every_word", "popular"]
    index: str
    ranking: str
    degraded: list[str] = msgspec.field(default_factory=list)
    total: TotalView | None = None
    facets: list[Facet] | None = None
    next_cursor: str | None = None
    did_you_mean: str | None = None
    explanation: ExplanationView | None = None


class SuggestionView(Struct, frozen=True, omit_defaults=True):
    """Something to search for. `kind` product has an `id`; brand and category have a `filter` value and a `count`."""

    text: str
    kind: Literal["product", "brand", "category"]
    id: str | None = None
    filter: str | None = None
    count: int | None = None


class SuggestAnswer(Struct, frozen=True, omit_defaults=True):
    """The best first."""

    suggestions: list[SuggestionView]
    degraded: list[str] = msgspec.field(default_factory=list)
