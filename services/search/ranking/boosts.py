"""Boosts that multiply the text score, each within bounds of its own, as the engine's `function_score`.

They multiply because the score scales of the engines differ by a constant factor, which an addend would not survive. They
are bounded, so that what they can do to the order is known: see `Ranking.spread`. `factor` is the same in Python; a test
compares both against the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import log1p
from typing import Any, Protocol

from services.search.ranking.personal import NOBODY, Affinity

Query = dict[str, Any]
"""A query of the engine, as JSON."""


@dataclass(frozen=True, slots=True)
class Context:
    """Of one request. `now` is taken at the start of the hour, so that equal requests make equal queries."""

    now: datetime
    affinity: Affinity = NOBODY

    @property
    def hour(self) -> datetime:
        """UTC."""
        return self.now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Signals:
    """What boosts read of a product. `categories` are all its paths, from the root on."""

    popularity: int
    created_at: datetime
    in_stock: bool
    brand_id: int = 0
    categories: Sequence[str] = ()


class Boost(Protocol):
    """One factor. `low` and `high` bound it."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    def around(self, query: Query, context: Context) -> Query:
        """The query with its scores multiplied."""
        ...

    def factor(self, product: Signals, context: Context) -> float:
        """What a product's score is multiplied by."""
        ...


def multiplied(query: Query, functions: Sequence[Mapping[str, Any]], *, mode: str, most: float) -> Query:
    """`function_score`: the functions are combined by `mode`, are `most` at most, and multiply the query's score."""
    return {
        "function_score": {
            "query": query,
            "functions": list(functions),
            "score_mode": mode,
            "boost_mode": "multiply",
            "max_boost": most,
        }
    }


@dataclass(frozen=True, slots=True)
class Popularity:
    """1 + weight * ln(1 + sales), at most `most`: the tenth sale says more than the thousandth."""

    weight: float
    most: float
    low: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a factor that could shrink."""
        if self.weight < 0 or self.most < 1:
            raise ValueError("a popularity boost has a weight of at least 0 and a bound of at least 1")

    @property
    def high(self) -> float:
        """The bound."""
        return self.most

    def around(self, query: Query, context: Context) -> Query:
        """See Boost."""
        del context
        sales = {"field": "popularity", "modifier": "ln1p", "missing": 0}
        functions = ({"weight": 1.0}, {"field_value_factor": sales, "weight": self.weight})
        return multiplied(query, functions, mode="sum", most=self.most)

    def factor(self, product: Signals, context: Context) -> float:
        """See Boost."""
        del context
        return min(self.most, 1 + self.weight * log1p(product.popularity))


@dataclass(frozen=True, slots=True)
class Freshness:
    """1 + weight for what is new, half of the weight after `half_life`, nothing in the end."""

    weight: float
    half_life: timedelta
    low: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a weight below 0 or a half-life below a day."""
        if self.weight < 0 or self.half_life < timedelta(days=1):
            raise ValueError("a freshness boost has a weight of at least 0 and a half-life of at least a day")

    @property
    def high(self) -> float:
        """Of a product made now."""
        return 1 + self.weight

    def around(self, query: Query, context: Context) -> Query:
        """See Boost."""
        age = {
            "origin": context.hour.isoformat().replace("+00:00", "Z"),
            "scale": f"{round(self.half_life.total_seconds())}s",
            "decay": 0.5,
        }
        functions = ({"weight": 1.0}, {"exp": {"created_at": age}, "weight": self.weight})
        return multiplied(query, functions, mode="sum", most=self.high)

    def factor(self, product: Signals, context: Context) -> float:
        """See Boost. A product of the future counts by its distance, as in the engine."""
        age = abs((context.hour - product.created_at).total_seconds())
        return float(1 + self.weight * 0.5 ** (age / self.half_life.total_seconds()))


@dataclass(frozen=True, slots=True)
class Stock:
    """What cannot be bought keeps `share` of its score."""

    share: float
    high: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a share that is not above 0 and at most 1."""
        if not 0 < self.share <= 1:
            raise ValueError("of what is out of stock a share above 0 and at most 1 is kept")

    @property
    def low(self) -> float:
        """Of what is out of stock."""
        return self.share

    def around(self, query: Query, context: Context) -> Query:
        """See Boost."""
        del context
        functions = ({"filter": {"term": {"in_stock": False}}, "weight": self.share},)
        return multiplied(query, functions, mode="multiply", most=1.0)

    def factor(self, product: Signals, context: Context) -> float:
        """See Boost."""
        del context
        return 1.0 if product.in_stock else self.share


@dataclass(frozen=True, slots=True)
class Taste:
    """Up to 1 + cap for the brands and categories that somebody looks at and buys."""

    cap: float
    low: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a cap that is not 0 to 1."""
        if not 0 <= self.cap <= 1:
            raise ValueError("personal taste adds 0 to 1 of a score at most")

    @property
    def high(self) -> float:
        """However much somebody loves it."""
        return 1 + self.cap

    def around(self, query: Query, context: Context) -> Query:
        """See Boost. For somebody who is not known the query stays as it is."""
        likes = context.affinity
        functions = [
            *({"filter": {"term": {"brand_id": key}}, "weight": self._half(share)} for key, share in likes.brands),
            *(
                {"filter": {"term": {"categories": key}}, "weight": self._half(share)}
                for key, share in likes.categories
            ),
        ]
        return multiplied(query, functions, mode="multiply", most=self.high) if functions else query

    def factor(self, product: Signals, context: Context) -> float:
        """See Boost."""
        total = 1.0
        for brand, share in context.affinity.brands:
            total *= self._half(share) if brand == product.brand_id else 1.0
        for category, share in context.affinity.categories:
            total *= self._half(share) if category in product.categories else 1.0
        return min(self.high, total)

    def _half(self, share: float) -> float:
        """Brand and category have half of the cap each; nobody reaches it by one of them alone."""
        return 1 + self.cap / 2 * share
