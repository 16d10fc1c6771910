"""What somebody likes, from what they looked at, clicked and bought: brands and categories, with older events fading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

HALF_LIFE = timedelta(days=14)
"""After so long an event counts half."""
ENOUGH = 5.0
"""Weight at which a liking is half of the most that it can be: one purchase, or five clicks."""
MOST_LIKED = 5
"""Brands, and categories. More clauses cost time and say little."""
SHALLOWEST = 2
"""Levels of a category that counts: liking `fashion` says nothing, liking `fashion/shoes` does."""

Key = TypeVar("Key", int, str)


class Kind(StrEnum):
    """What somebody did with a product."""

    VIEW = "view"
    CLICK = "click"
    PURCHASE = "purchase"


WEIGHTS: Mapping[Kind, float] = {Kind.VIEW: 0.3, Kind.CLICK: 1.0, Kind.PURCHASE: 5.0}


@dataclass(frozen=True, slots=True)
class Interaction:
    """One event. `at` is aware; `category` is the product's own path."""

    kind: Kind
    brand_id: int
    category: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Affinity:
    """(brand or category path, liking above 0 and below 1), the strongest first; at most MOST_LIKED of each."""

    brands: tuple[tuple[int, float], ...] = ()
    categories: tuple[tuple[str, float], ...] = ()


NOBODY = Affinity()


def personal(interactions: Iterable[Interaction], now: datetime) -> Affinity:
    """What the events say about taste at `now`. The order of the events does not matter; those of the future are left out."""
    brands: dict[int, float] = {}
    categories: dict[str, float] = {}
    for each in sorted(interactions, key=lambda one: (one.at, one.kind, one.brand_id, one.category)):
        age = (now - each.at) / HALF_LIFE
        if age < 0:
            continue
        weight = WEIGHTS[each.kind] * 0.5**age
        brands[each.brand_id] = brands.get(each.brand_id, 0.0) + weight
        for path in _paths(each.category):
            categories[path] = categories.get(path, 0.0) + weight
    return Affinity(_strongest(brands), _strongest(categories))


def _paths(category: str) -> list[str]:
    """`fashion/shoes/running` is liked and so is `fashion/shoes`, each with the whole weight."""
    parts = category.split("/")
    return ["/".join(parts[:depth]) for depth in range(min(SHALLOWEST, len(parts)), len(parts) + 1)]


def _strongest(weights: Mapping[Key, float]) -> tuple[tuple[Key, float], ...]:
    best = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:MOST_LIKED]
    return tuple((key, round(weight / (weight + ENOUGH), 4)) for key, weight in best if weight / ENOUGH > 1e-3)
