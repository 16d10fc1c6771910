"""Why a product is where it is: the engine's score taken apart into what people can read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import prod
from typing import Literal
from uuid import UUID

from services.search.engine import Hit
from services.search.query.build import Asked, lower_tier
from services.search.query.synonyms import Synonyms
from services.search.ranking import Context, Effect, Ranking, Signals
from services.search.ranking.rules import BURIED, PIN
from services.search.schemas import BoostView, ExplanationView, TierView, WordView

How = Literal["exact", "typo", "synonym", "missing"]


def explanation(
    identity: str,
    hit: Hit,
    asked: Asked,
    ranking: Ranking,
    context: Context,
    synonyms: Synonyms,
    effect: Effect,
    *,
    ranked: bool,
) -> ExplanationView:
    """Of a hit that was searched for with explain. Not `ranked`: the order is another than relevance, nothing is scored."""
    names = frozenset(hit.matched_queries)
    lower = lower_tier(asked, ranking.weights) if asked.positive else 0.0
    constants = {"exact": 2 * lower, "number": lower}
    tiers = (
        [TierView(name, constant) for name, constant in constants.items() if f"tier:{name}" in names] if ranked else []
    )
    boosts = _boosts(hit, ranking, context) if ranked else []
    score = hit.score or 0.0
    product = UUID(str(hit.source["id"]))
    own, rules = _without_rules(score, product, effect, _buried(hit, effect))
    text = (own - sum(each.constant for each in tiers)) / prod(each.factor for each in boosts) if ranked else 0.0
    return ExplanationView(
        id=identity,
        score=score,
        tiers=tiers,
        text=max(0.0, text),
        boosts=boosts,
        words=list(_words(asked, synonyms, names)) if ranked else [],
        rules=rules if ranked else [],
        engine=hit.explanation or {},
    )


def _buried(hit: Hit, effect: Effect) -> bool:
    """Whether a rule buries this product: by itself, its brand or its category."""
    return (
        UUID(str(hit.source["id"])) in effect.buried
        or hit.source.get("brand_id") in effect.buried_brands
        or bool(set(hit.source.get("categories", ())) & set(effect.buried_categories))
    )


def _without_rules(score: float, product: UUID, effect: Effect, buried: bool) -> tuple[float, list[str]]:
    """The score before rules, and what they did."""
    rules: list[str] = []
    if product in effect.pinned:
        place = effect.pinned.index(product)
        score -= PIN * (len(effect.pinned) - place)
        rules.append(f"pinned to place {place + 1}")
    if buried:
        score /= BURIED
        rules.append("buried")
    return score, rules


def _boosts(hit: Hit, ranking: Ranking, context: Context) -> list[BoostView]:
    source = hit.source
    signals = Signals(
        popularity=int(source["popularity"]),
        created_at=datetime.fromisoformat(str(source["created_at"])),
        in_stock=bool(source["in_stock"]),
        brand_id=int(source.get("brand_id", 0)),
        categories=tuple(source.get("categories", ())),
    )
    return [BoostView(type(each).__name__.lower(), each.factor(signals, context)) for each in ranking.boosts]


def _words(asked: Asked, synonyms: Synonyms, names: frozenset[str]) -> Sequence[WordView]:
    words = asked.words
    found: list[WordView] = []
    for start, end, _ in synonyms.spans(words, asked.language):
        typed = " ".join(words[start:end])
        found += [WordView(word, _how(word, typed, names)) for word in words[start:end]]
    return found


def _how(word: str, typed: str, names: frozenset[str]) -> How:
    if f"word:{word}" in names:
        return "exact"
    if any(each.startswith(f"same:{typed}:") for each in names):
        return "synonym"
    guessed = any(each.startswith(f"guess:{typed}:") for each in names)
    return "typo" if guessed or f"typo:{word}" in names else "missing"
