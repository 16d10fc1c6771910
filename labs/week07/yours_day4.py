"""Your turn: what ranks above what. `make lab week=7 day=4 variant=yours` judges it as it judged the others.

The engine has found up to a hundred products for a query and says what it thinks of their texts; `score` says what they are
worth to this person, in this shop. What is out of stock cannot be sold; what sells well is often what was meant; who bought a
maker's things before likes to see them again.

The checker: on average the first ten are what was meant; nearly all of them can be bought; who types the number of a product
sees that product first, in stock or not, whatever they like otherwise; and taste costs no relevance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


class NotWrittenYet(Exception):
    """The stub."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the engine found. `text` is above 0 and without a bound, and means something only beside others of the same query."""

    text: float
    popularity: int
    """Sales of the last thirty days: 0 to a million, most of them below 5."""
    in_stock: bool
    created_at: datetime
    brand_id: int
    categories: Sequence[str]
    """Paths, from the root on."""


@dataclass(frozen=True, slots=True)
class Person:
    """How much somebody likes brands and categories, 0 (not in here) to 1. A stranger likes nothing."""

    brands: Mapping[int, float]
    categories: Mapping[str, float]


def score(candidate: Candidate, person: Person, now: datetime) -> float:
    """The higher, the earlier."""
    del candidate, person, now
    raise NotWrittenYet("Write score() in labs/week07/yours_day4.py")
