"""Measures of one answer against judgements. A grade is 0 (wrong) to 3 (exactly that); what is not judged is 0.

Sources: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002), with the exponential gain of
Burges et al. (2005); Voorhees, "The TREC-8 question answering track report" (1999) for MRR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

DEPTH = 10
"""How far people look."""
RECALL_DEPTH = 100
RELEVANT = 2
"""Grades from here on count as found, for MRR and recall."""
HIGHEST = 3


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one query. `recall` is the share of the relevant that is among the first RECALL_DEPTH, of as many as fit there.

    `wanted` is 1 over the place of the one product that was meant, 0 below the tenth; None where nobody knows it.
    """

    ndcg: float
    reciprocal_rank: float
    recall: float
    zero: bool
    wanted: float | None = None


def gain(grades: Sequence[int]) -> float:
    """Discounted cumulative gain of grades in their order."""
    return sum((2.0**grade - 1) / log2(place + 2) for place, grade in enumerate(grades))


def ndcg(found: Sequence[int], judged: Sequence[int], depth: int = DEPTH) -> float:
    """1 for the best order that there could be, 0 for nothing relevant. `judged` are all grades of the query, in any order."""
    best = gain(sorted(judged, reverse=True)[:depth])
    return gain(found[:depth]) / best if best else 0.0


def scores(found: Sequence[str], judged: Mapping[str, int], wanted: str | None = None) -> Scores:
    """Of the documents found, best first. A document that comes twice counts once: a page that repeats is no better."""
    unique = list(dict.fromkeys(found))
    grades = [judged.get(each, 0) for each in unique]
    first = next((place for place, grade in enumerate(grades[:DEPTH]) if grade >= RELEVANT), None)
    relevant = sum(grade >= RELEVANT for grade in judged.values())
    seen = sum(grade >= RELEVANT for grade in grades[:RECALL_DEPTH])
    return Scores(
        ndcg=ndcg(grades, list(judged.values())),
        reciprocal_rank=0.0 if first is None else 1 / (first + 1),
        recall=seen / min(relevant, RECALL_DEPTH) if relevant else 0.0,
        zero=not unique,
        wanted=None if wanted is None else _reciprocal(unique[:DEPTH], wanted),
    )


def _reciprocal(found: Sequence[str], wanted: str) -> float:
    return 1 / (found.index(wanted) + 1) if wanted in found else 0.0
