"""Whether a search finds what was meant, judged from its answers and from what the products are. Imports nothing from services.

An operation of kind `query` is a question. Its result holds `grades` (0 to 3, of the first ten, best first), `best` (the ten
best grades that there are), `docs` (the size of the catalogue), `form` (what kind of query it is), and where it was asked
more than once `turn`. Offenders are keys of questions. The control's answers count only while there are no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, sqrt
from statistics import median

from labs.engine.model import Evidence, Finding, Invariant, NotApplicableError, Operation, Phase

QUERY, STRANGER, GATE = "query", "stranger", "gate"
"""`stranger` is a question asked by nobody in particular; `gate` is a change of the ranking that was tried."""
TOLERANCE = 1e-4
"""Relative: the engine's scores are 32-bit floats."""
NOT_SHOWN = 1_000
"""The place of what is not among the first ten."""
WRONG = 0.3
"""A question with a lower nDCG@10 offends, where the mean is too low."""


def asked(evidence: Evidence, kind: str = QUERY) -> list[Operation]:
    """The questions that count, each once."""
    answers = [one for one in evidence.history if one.kind == kind and one.result.get("turn", "1") == "1"]
    return [one for one in answers if one.phase is not Phase.CONTROL] or answers


def numbers(text: str) -> list[float]:
    """Of `3 0 2`."""
    return [float(each) for each in text.split()]


def gain(grades: Sequence[float]) -> float:
    """Discounted cumulative gain (Järvelin and Kekäläinen, 2002; gain 2^grade - 1)."""
    return float(sum((2.0**grade - 1) / log2(place + 2) for place, grade in enumerate(grades)))


def ndcg(answer: Operation) -> float:
    """Of the first ten; 0 for an answer that never came."""
    best = gain(sorted(numbers(answer.result.get("best", "")), reverse=True)[:10])
    return gain(numbers(answer.result.get("grades", ""))[:10]) / best if best else 0.0


def mean_ndcg(answers: Sequence[Operation]) -> float | None:
    """None of nothing."""
    return sum(map(ndcg, answers)) / len(answers) if answers else None


def finds_what_is_meant(at_least: float) -> Invariant:
    """The mean nDCG@10 of every size of the catalogue is at least this."""

    async def finds_what_is_meant(evidence: Evidence) -> Finding:
        """The first ten results are what was meant: nDCG@10, on average over the queries, at every size."""
        offenders: list[str] = []
        notes = []
        for docs, answers in by_size(asked(evidence)).items():
            mean = mean_ndcg(answers)
            assert mean is not None
            notes.append(f"{mean:.3f} of {len(answers)} queries at {docs:,}")
            if mean < at_least:
                offenders += [one.key for one in answers if ndcg(one) < min(WRONG, at_least)]
        if not notes:
            return Finding.unknown("no question was answered")
        return Finding.of(offenders, f"at least {at_least:g}: {'; '.join(notes)}")

    return finds_what_is_meant


def by_size(answers: Sequence[Operation]) -> dict[int, list[Operation]]:
    """By the size of the catalogue, the smallest first."""
    sizes = sorted({int(one.result["docs"]) for one in answers})
    return {docs: [one for one in answers if int(one.result["docs"]) == docs] for docs in sizes}


def milliseconds(answers: Sequence[Operation]) -> float | None:
    """The median; None of nothing."""
    known = [1000 * one.latency for one in answers if one.latency is not None]
    return median(known) if known else None


async def time_grows_slower_than_the_catalogue(evidence: Evidence) -> Finding:
    """A hundred times the products cost at most ten times the time: the median grows no faster than the square root."""
    answers = [one for one in evidence.history if one.kind == QUERY and one.phase is not Phase.CONTROL]
    sizes = by_size(answers)
    if len(sizes) < 2:
        return Finding.of((), "one size only")
    smallest, largest = min(sizes), max(sizes)
    limit = sqrt(largest / smallest)
    if (noise := _noise(sizes)) > sqrt(limit):
        return Finding.unknown(f"the same questions took {noise:.1f} times as long the second time")
    few, many = milliseconds(sizes[smallest]), milliseconds(sizes[largest])
    if few is None or many is None:
        return Finding.unknown("no answer at the smallest or the largest size")
    note = f"{few:.1f} ms at {smallest:,}, {many:.1f} ms at {largest:,}: {many / few:.1f} times, limit {limit:.1f}"
    slow = [one.key for one in asked(evidence) if int(one.result["docs"]) == largest]
    return Finding.of(slow if many > limit * few else (), note)


def _noise(sizes: dict[int, list[Operation]]) -> float:
    """A/A: the largest ratio between the medians of two turns at one size."""
    worst = 1.0
    for answers in sizes.values():
        turns = {one.result.get("turn", "1") for one in answers}
        medians = [milliseconds([one for one in answers if one.result.get("turn", "1") == each]) for each in turns]
        known = [each for each in medians if each]
        worst = max(worst, max(known) / min(known)) if known else worst
    return worst


async def tiny_index_agrees(evidence: Evidence) -> Finding:
    """The scores of tiny_index.py are the engine's, up to one constant factor."""
    scored = [one for one in asked(evidence) if one.result.get("scores")]
    if not scored:
        raise NotApplicableError(f"{evidence.variant_name} has no scores of both")
    offenders, worst = [], 0.0
    for answers in by_size(scored).values():
        ratios = {one.key: _ratios(one) for one in answers}
        if not all(ratios.values()):
            offenders += [key for key, found in ratios.items() if not found]
            continue
        first = ratios[answers[0].key][0]
        for key, found in ratios.items():
            off = max(abs(each / first - 1) for each in found)
            worst = max(worst, off)
            offenders += [key] if off > TOLERANCE else []
    return Finding.of(offenders, f"largest deviation {worst:.1e} of {len(scored)} queries, limit {TOLERANCE:g}")


def _ratios(answer: Operation) -> list[float]:
    """The engine's score by ours, of each hit; none if a hit has no score of ours."""
    theirs, ours = numbers(answer.result["scores"]), numbers(answer.result.get("tiny", ""))
    return [a / b for a, b in zip(theirs, ours, strict=True)] if len(theirs) == len(ours) and all(ours) else []


async def numbers_come_first(evidence: Evidence) -> Finding:
    """Who types a product's number sees that product first, in stock or not."""
    typed = [one for one in asked(evidence) if one.result["form"] in ("model", "code")]
    if not typed:
        raise NotApplicableError("nobody typed a number")
    wrong = [one.key for one in typed if numbers(one.result["grades"])[:1] != [3.0]]
    return Finding.of(wrong, f"{len(typed)} numbers")


def what_can_be_bought_comes_first(at_least: float) -> Invariant:
    """At least this share (0 to 1) of the relevant products among the first ten is in stock, where enough of them are."""

    async def what_can_be_bought_comes_first(evidence: Evidence) -> Finding:
        """Of the relevant products on the first page, nearly all can be bought."""
        known = [one for one in asked(evidence) if "buyable" in one.result]
        if not known:
            raise NotApplicableError(f"{evidence.variant_name} does not say what is in stock")
        shown = sum(int(one.result["relevant"]) for one in known)
        buyable = sum(int(one.result["buyable"]) for one in known)
        share = buyable / shown if shown else 0.0
        short = [one.key for one in known if int(one.result["buyable"]) < int(one.result["relevant"])]
        return Finding.of(short if share < at_least else (), f"{buyable} of {shown} are in stock, limit {at_least:.0%}")

    return what_can_be_bought_comes_first


async def gate_refuses_only_what_ruins(evidence: Evidence) -> Finding:
    """A change that ruins the ranking is refused, and one that does no harm is let through."""
    tried = asked(evidence, GATE)
    if not tried:
        raise NotApplicableError(f"{evidence.variant_name} has no gate")
    if {one.result["ruins"] for one in tried} != {"yes", "no"}:
        return Finding.unknown("only one kind of change was tried")
    wrong = [one.key for one in tried if one.result["refused"] != one.result["ruins"]]
    return Finding.of(wrong, "; ".join(f"{one.key}: nDCG@10 {one.result['lost']} lost" for one in tried))


def taste_costs_no_relevance(at_most: float) -> Invariant:
    """With a person's taste the mean nDCG@10 is at most this much lower than without."""

    async def taste_costs_no_relevance(evidence: Evidence) -> Finding:
        """Who is known finds what they mean as well as a stranger does."""
        known, strangers = _pairs(evidence)
        before, after = mean_ndcg(strangers), mean_ndcg(known)
        assert before is not None
        assert after is not None
        worse = [one.key for one, other in zip(known, strangers, strict=True) if ndcg(one) < ndcg(other)]
        note = f"{after:.3f} with taste, {before:.3f} without"
        return Finding.of(worse if after < before - at_most else (), note)

    return taste_costs_no_relevance


async def taste_hides_no_exact_match(evidence: Evidence) -> Finding:
    """Somebody's taste never puts the product of which they typed the number on a later place."""
    known, strangers = _pairs(evidence)
    pairs = [
        (one, int(one.result.get("place", NOT_SHOWN)), int(other.result["place"]))
        for one, other in zip(known, strangers, strict=True)
        if one.result["form"] in ("model", "code") and other.result.get("place")
    ]
    if not pairs:
        return Finding.unknown("nobody asked for a number")
    return Finding.of([one.key for one, with_taste, without in pairs if with_taste > without], f"{len(pairs)} numbers")


def _pairs(evidence: Evidence) -> tuple[list[Operation], list[Operation]]:
    """The questions that were asked both by somebody and by a stranger. Raises NotApplicableError if there is none."""
    strangers = {one.key: one for one in asked(evidence, STRANGER)}
    known = [one for one in asked(evidence) if one.key in strangers]
    if not known:
        raise NotApplicableError(f"{evidence.variant_name} knows nobody")
    return known, [strangers[one.key] for one in known]
