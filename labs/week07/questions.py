"""What is asked on the days that compare, and how good each product is as an answer: from the generator, not from the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from services.catalog.generate import traits
from services.catalog.judge import Form, Intent, intents, judge

DEPTH = 10


@dataclass(frozen=True, slots=True)
class Question:
    """A query and what was meant by it. `best` are the ten best grades that a catalogue has."""

    key: str
    text: str
    form: str
    intent: Intent
    best: tuple[int, ...]
    seed: int

    def grades(self, found: Sequence[int]) -> list[int]:
        """Of products by number."""
        return [self.intent.grade(traits(self.seed, each)) for each in found[:DEPTH]]


@lru_cache(maxsize=16)
def questions(seed: int, count: int, of: int, forms: tuple[Form, ...], drawn_from: int) -> tuple[Question, ...]:
    """`count` different queries about products below `drawn_from`, judged among the first `of`. One pass over the catalogue."""
    chosen: dict[tuple[str, str], Intent] = {}
    for intent in intents(seed, count * 20, drawn_from):
        if intent.form in forms and len(chosen) < count:
            chosen.setdefault((intent.text, intent.language), intent)
    judged = judge(seed, list(chosen.values()), of, most=DEPTH)
    return tuple(
        Question(
            key=f"{each.intent.form.value}: {each.intent.text}",
            text=each.intent.text,
            form=each.intent.form.value,
            intent=each.intent,
            best=tuple(grade for _, grade in each.grades),
            seed=seed,
        )
        for each in judged
    )


def joined(values: Sequence[float]) -> str:
    """As the history keeps them."""
    return " ".join(f"{each:g}" if isinstance(each, int) else f"{each:.7g}" for each in values)
