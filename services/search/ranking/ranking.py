"""A ranking: field weights and boosts, by name. What a variant of an experiment changes, and what `evaluate` compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import prod
from types import MappingProxyType

from services.search.ranking.boosts import Boost, Context, Freshness, Popularity, Query, Signals, Stock, Taste

MOST_SPREAD = 4.0
"""How far boosts may pull two products of equal text score apart.

The tiers of services/search/query/build.py lie so many times above any text score, so that no boost, and no taste of a person,
ranks a typo above an exact match.
"""

FIELDS = ("title", "title_stemmed", "description", "brand", "category", "model", "sku")
"""What weights are given for. `title` holds the words as they are; `title_stemmed` and `description` stand for the fields
of the query's language."""

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "title": 3.0,
        "title_stemmed": 2.0,
        "description": 0.3,
        "brand": 2.5,
        "category": 2.0,
        "model": 6.0,
        "sku": 6.0,
    }
)


@dataclass(frozen=True, slots=True)
class Ranking:
    """`weights` multiply each field's text score; `boosts` multiply the whole.

    Raises ValueError for a field that is not known, a weight that is not above 0, or a spread above MOST_SPREAD.
    """

    name: str
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    boosts: tuple[Boost, ...] = ()

    def __post_init__(self) -> None:
        """See the class."""
        if unknown := set(self.weights) ^ set(FIELDS):
            raise ValueError(
                f"ranking {self.name}: weights are for {', '.join(FIELDS)}; wrong: {', '.join(sorted(unknown))}"
            )
        if min(self.weights.values()) <= 0:
            raise ValueError(f"ranking {self.name}: weights are above 0")
        if self.spread > MOST_SPREAD:
            raise ValueError(
                f"ranking {self.name}: its boosts spread scores {self.spread:.2f} times; {MOST_SPREAD:g} is the most"
            )

    @property
    def spread(self) -> float:
        """The largest factor over the smallest: 1 without boosts."""
        return prod(boost.high for boost in self.boosts) / prod(boost.low for boost in self.boosts)

    @property
    def personalised(self) -> bool:
        """Whether it reads a person's taste, so that an answer may not be shared between people."""
        return any(isinstance(boost, Taste) for boost in self.boosts)

    def factor(self, product: Signals, context: Context) -> float:
        """What a product's text score is multiplied by."""
        return prod(boost.factor(product, context) for boost in self.boosts)


_SHOP: tuple[Boost, ...] = (Popularity(0.08, 1.6), Freshness(0.15, timedelta(days=180)), Stock(0.6))

BM25 = Ranking("bm25")
BOOSTED = Ranking("boosted", boosts=_SHOP)
PERSONALISED = Ranking("personalised", boosts=(*_SHOP, Taste(0.25)))
RANKINGS: Mapping[str, Ranking] = MappingProxyType({each.name: each for each in (BM25, BOOSTED, PERSONALISED)})
DEFAULT = BOOSTED


def ranked(text_query: Query, ranking: Ranking, context: Context) -> Query:
    """The text query within the ranking's boosts. Which documents match stays as it is."""
    query = text_query
    for boost in ranking.boosts:
        query = boost.around(query, context)
    return query
