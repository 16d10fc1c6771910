"""Refuses a ranking that is worse than a kept one: on the whole, or for one form of query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.search.evaluation.bootstrap import Interval, interval
from services.search.evaluation.result import ALL, Result, ResultWrong, Row

WORST = 5
"""Queries named."""
FORM_FACTOR = 5.0
"""A form has fewer queries, so its mean moves more: it may lose so many times what the whole may."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Mean nDCG@10 before minus after, over the queries that both have. `worst` are (query, before, after)."""

    ranking: str
    form: str
    loss: Interval
    most: float
    worst: tuple[tuple[str, float, float], ...]

    @property
    def refused(self) -> bool:
        """It lost more than it may."""
        return self.loss.mean > self.most

    def told(self) -> str:
        """A sentence, and the worst queries."""
        of = "" if self.form == ALL else f" for queries of the form {self.form}"
        text = f"{self.ranking} lost {self.loss} nDCG@10{of}; {self.most:g} is the most."
        return "\n".join([text, *(f"  {before:.3f} -> {after:.3f}  {query}" for query, before, after in self.worst)])


def losses(before: Result, after: Result, at_most: float) -> list[Loss]:
    """Of each ranking that both have, on the whole and by form. Raises ResultWrong if they cannot be compared."""
    if before.judged != after.judged:
        raise ResultWrong(f"The kept result is about {before.judged}, this one about {after.judged}.")
    shared = [name for name in after.rankings if name in before.rankings]
    if not shared:
        raise ResultWrong(
            f"The kept result has {', '.join(before.rankings)}, this one {', '.join(after.rankings)}: there is nothing to compare."
        )
    return [loss for name in shared for loss in _of_ranking(name, before.rankings[name], after.rankings[name], at_most)]


def _of_ranking(name: str, before: Sequence[Row], after: Sequence[Row], at_most: float) -> list[Loss]:
    known = {each.key: each for each in before}
    if missing := [each.query for each in before if each.key not in {one.key for one in after}]:
        raise ResultWrong(f"{name}: the kept result has queries that were not asked now, such as {missing[0]!r}.")
    pairs = [(known[each.key], each) for each in after if each.key in known]
    if not pairs:
        raise ResultWrong(f"{name}: no query was asked both times.")
    forms = dict.fromkeys(each.form for _, each in pairs)
    parts = [(ALL, pairs, at_most)]
    parts += [(form, [pair for pair in pairs if pair[1].form == form], at_most * FORM_FACTOR) for form in forms]
    return [_loss(name, form, part, most) for form, part, most in parts]


def _loss(name: str, form: str, pairs: Sequence[tuple[Row, Row]], most: float) -> Loss:
    worst = sorted(pairs, key=lambda pair: (pair[1].ndcg - pair[0].ndcg, pair[1].query))[:WORST]
    return Loss(
        ranking=name,
        form=form,
        loss=interval([old.ndcg - new.ndcg for old, new in pairs]),
        most=most,
        worst=tuple((new.query, old.ndcg, new.ndcg) for old, new in worst if new.ndcg < old.ndcg),
    )
