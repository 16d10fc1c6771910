"""Queries whose right answers are known: from what products are (`Traits`), not from how their text reads.

A query is drawn from a product that somebody has in mind: what is named of it is wanted. Grades are those of a judged set
(Voorhees, TREC): 3 exactly that, 2 close, 1 related, and whatever is not listed 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.catalog import vocabulary as words
from services.catalog.domain import Language
from services.catalog.draw import Draw
from services.catalog.generate import Traits, brands, traits

EXACT, CLOSE, RELATED = 3, 2, 1
MOST_JUDGED = 200
"""Products kept for one query, the best first: nDCG@10 looks at ten."""


class Form(StrEnum):
    """What people type."""

    NOUN = "noun"
    NOUN_AND_TRAIT = "noun_and_trait"
    BRAND_AND_NOUN = "brand_and_noun"
    MODEL = "model"
    SYNONYM = "synonym"
    TYPO = "typo"


@dataclass(frozen=True, slots=True)
class Intent:
    """What is wanted. None: it does not matter."""

    text: str
    form: Form
    language: Language
    leaf: int
    brand: int | None = None
    colour: int | None = None
    quality: int | None = None
    model: str | None = None

    def grade(self, kind: Traits) -> int:
        """How well a product answers it, 0 to 3."""
        if self.model is not None:
            if (kind.model, kind.brand) == (self.model, self.brand):
                return EXACT
            return RELATED if (kind.leaf, kind.brand) == (self.leaf, self.brand) else 0
        if kind.leaf != self.leaf:
            return 0
        wanted = [(self.brand, kind.brand), (self.colour, kind.colour), (self.quality, kind.quality)]
        met = [want == have for want, have in wanted if want is not None]
        if kind.language != self.language:
            return RELATED if all(met) else 0
        if all(met):
            return EXACT
        return CLOSE if sum(met) * 2 > len(met) else RELATED


@dataclass(frozen=True, slots=True)
class Judged:
    """A query and its answers: (number of the product, grade), the best first."""

    intent: Intent
    grades: tuple[tuple[int, int], ...]


def intents(seed: int, count: int, of: int) -> Iterator[Intent]:
    """`count` queries about a catalogue of `of` products; each form in turn."""
    forms = tuple(Form)
    for number in range(count):
        draw = Draw(seed, f"query {number}")
        yield _intent(draw, forms[number % len(forms)], traits(seed, draw.below(of)))


def meant(seed: int, number: int, of: int) -> int:
    """The very product that query `number` is drawn from."""
    return Draw(seed, f"query {number}").below(of)


def judge(seed: int, wanted: Sequence[Intent], of: int, most: int | None = MOST_JUDGED) -> list[Judged]:
    """Each query's answers among the first `of` products, at most so many (None: all). One pass over the catalogue."""
    by_leaf: dict[int, list[int]] = {}
    by_brand: dict[int, list[int]] = {}
    for place, intent in enumerate(wanted):
        if intent.model is not None and intent.brand is not None:
            by_brand.setdefault(intent.brand, []).append(place)
        else:
            by_leaf.setdefault(intent.leaf, []).append(place)
    found: list[list[tuple[int, int]]] = [[] for _ in wanted]
    for number in range(of):
        kind = traits(seed, number)
        for place in (*by_leaf.get(kind.leaf, ()), *by_brand.get(kind.brand, ())):
            if grade := wanted[place].grade(kind):
                found[place].append((number, grade))
    return [Judged(intent, _best(grades, most)) for intent, grades in zip(wanted, found, strict=True)]


def _best(grades: Iterable[tuple[int, int]], most: int | None) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(grades, key=lambda item: (-item[1], item[0]))[:most])


def _intent(draw: Draw, form: Form, kind: Traits) -> Intent:
    nouns = words.LEAVES[kind.leaf].nouns[kind.language]
    intent = Intent(nouns[0], form, kind.language, kind.leaf)
    match form:
        case Form.NOUN:
            return intent
        case Form.SYNONYM:
            return _with(intent, draw.one(nouns[1:] or nouns))
        case Form.TYPO:
            return _with(intent, misspelt(draw, nouns[0]))
        case Form.BRAND_AND_NOUN:
            return _with(intent, f"{brands()[kind.brand].name} {nouns[0]}", brand=kind.brand)
        case Form.MODEL:
            return _with(intent, f"{brands()[kind.brand].name} {kind.model}", brand=kind.brand, model=kind.model)
        case Form.NOUN_AND_TRAIT:
            return _trait(intent, kind)


def _trait(intent: Intent, kind: Traits) -> Intent:
    if kind.colour is not None:
        return _with(intent, f"{words.COLOURS[kind.language][kind.colour]} {intent.text}", colour=kind.colour)
    if kind.quality is not None:
        return _with(intent, f"{words.QUALITIES[kind.language][kind.quality]} {intent.text}", quality=kind.quality)
    return intent


def _with(
    intent: Intent,
    text: str,
    *,
    brand: int | None = None,
    colour: int | None = None,
    quality: int | None = None,
    model: str | None = None,
) -> Intent:
    return Intent(text.lower(), intent.form, intent.language, intent.leaf, brand, colour, quality, model)


def misspelt(draw: Draw, text: str) -> str:
    """One letter of the longest word left out, doubled, or swapped with the next; never its first."""
    word = max(text.split(), key=len)
    if len(word) < 4:
        return text
    place = 1 + draw.below(len(word) - 2)
    wrong = (
        word[:place] + word[place + 1 :],
        word[:place] + word[place] + word[place:],
        word[:place] + word[place + 1] + word[place] + word[place + 2 :],
    )
    return text.replace(word, draw.one([each for each in wrong if each != word]), 1)
