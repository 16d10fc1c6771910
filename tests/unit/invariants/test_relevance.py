"""Each invariant of relevance is seen red on a planted bug, green without it, and unknown where nothing was shown."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from labs.engine.model import NotApplicableError, Operation, Outcome, Phase, Status
from labs.invariants import relevance as r
from tests.unit.invariants.evidence import ListedEvidence


def question(
    key: str,
    grades: str = "3 3 3",
    *,
    best: str = "3 3 3",
    docs: int = 1000,
    took: float | None = 0.001,
    kind: str = r.QUERY,
    phase: Phase = Phase.BASELINE,
    **more: str,
) -> Operation:
    result = {"grades": grades, "best": best, "docs": str(docs), "form": "noun", **more}
    done_at = None if took is None else 1.0 + took
    return Operation(
        id=key, key=key, kind=kind, phase=phase, intended_at=1.0, sent_at=1.0, done_at=done_at, attempts=1, status=None,
        outcome=Outcome.OK, error=None, result=result,
    )  # fmt: skip


def evidence(*operations: Operation) -> ListedEvidence:
    return ListedEvidence(history=operations)


def test_ndcg_is_one_for_the_best_order_and_counts_places() -> None:
    assert r.ndcg(question("a", "3 2 1", best="1 2 3")) == 1.0
    assert 0 < r.ndcg(question("a", "0 3", best="3")) < 1
    assert r.ndcg(question("a", "", best="3")) == 0.0
    assert r.ndcg(question("a", "3", best="")) == 0.0
    assert r.ndcg(question("a", "0 " * 10 + "3", best="3")) == 0.0


async def test_answers_that_are_not_what_was_meant_are_named_where_the_mean_is_too_low() -> None:
    check = r.finds_what_is_meant(0.5)
    good, bad = [question(f"g{n}") for n in range(3)], [question(f"b{n}", "0 0 0") for n in range(7)]
    held = await check(evidence(*good, *bad[:2]))
    assert (held.status, held.note) == (Status.HELD, "at least 0.5: 0.600 of 5 queries at 1,000")
    broken = await check(evidence(*good, *bad))
    assert (broken.status, broken.count) == (Status.BROKEN, 7)


async def test_one_size_that_is_bad_is_enough() -> None:
    large = [question(f"b{n}", "0", docs=10_000) for n in range(3)]
    assert (await r.finds_what_is_meant(0.5)(evidence(question("g"), *large))).count == 3


async def test_the_control_counts_while_there_is_nothing_else() -> None:
    check = r.finds_what_is_meant(0.5)
    control = question("c", "0", phase=Phase.CONTROL)
    assert (await check(evidence(control))).status is Status.BROKEN
    assert (await check(evidence(control, question("g")))).status is Status.HELD
    assert (await check(evidence())).status is Status.UNKNOWN


async def test_a_further_turn_of_the_same_question_is_not_a_further_question() -> None:
    turns = [question("g", turn="1"), question("g", "0", turn="2")]
    assert (await r.finds_what_is_meant(0.9)(evidence(*turns))).status is Status.HELD


def timed(small: Sequence[float], large: Sequence[float]) -> ListedEvidence:
    few = [question(f"s{n}", took=took, turn=str(n % 2 + 1)) for n, took in enumerate(small)]
    many = [question(f"l{n}", docs=100_000, took=took, turn=str(n % 2 + 1)) for n, took in enumerate(large)]
    return evidence(*few, *many)


async def test_time_that_grows_with_the_catalogue_is_broken_and_slower_growth_holds() -> None:
    check = r.time_grows_slower_than_the_catalogue
    assert (await check(timed([0.001] * 4, [0.009] * 4))).status is Status.HELD
    broken = await check(timed([0.001] * 4, [0.011] * 4))
    assert (broken.status, broken.count) == (Status.BROKEN, 2)


async def test_where_the_same_questions_take_another_time_nothing_is_shown() -> None:
    finding = await r.time_grows_slower_than_the_catalogue(timed([0.001, 0.009] * 4, [0.009] * 8))
    assert finding.status is Status.UNKNOWN
    assert "9.0 times as long" in finding.note


async def test_one_size_says_nothing_about_growth_and_no_answer_is_unknown() -> None:
    check = r.time_grows_slower_than_the_catalogue
    assert (await check(evidence(question("a")))).status is Status.HELD
    unanswered = [question("a", took=None), question("b", docs=2000, took=None)]
    assert (await check(evidence(*unanswered))).status is Status.UNKNOWN


async def test_scores_of_one_factor_agree_and_another_one_is_named() -> None:
    same = question("a", scores="4.4 2.2", tiny="2 1")
    assert (await r.tiny_index_agrees(evidence(same, question("b", scores="1.1", tiny="0.5")))).status is Status.HELD
    other = question("b", scores="1.1", tiny="0.501")
    finding = await r.tiny_index_agrees(evidence(same, other))
    assert (finding.status, finding.offenders) == (Status.BROKEN, ("b",))


@pytest.mark.parametrize("tiny", ["", "2", "2 0"])
async def test_a_hit_without_a_score_of_ours_is_broken(tiny: str) -> None:
    finding = await r.tiny_index_agrees(evidence(question("a", scores="4 2", tiny=tiny)))
    assert finding.offenders == ("a",)


async def test_the_factor_may_differ_between_sizes() -> None:
    both = [question("a", scores="4", tiny="2"), question("b", docs=2000, scores="9", tiny="2")]
    assert (await r.tiny_index_agrees(evidence(*both))).status is Status.HELD


async def test_who_does_not_score_is_not_judged_by_it() -> None:
    with pytest.raises(NotApplicableError):
        await r.tiny_index_agrees(evidence(question("a")))


async def test_a_number_that_is_not_found_first_is_named() -> None:
    typed = [question("a", "3 0", form="model"), question("b", "0 3", form="code"), question("c", "", form="model")]
    assert (await r.numbers_come_first(evidence(*typed))).offenders == ("b", "c")
    assert (await r.numbers_come_first(evidence(typed[0]))).status is Status.HELD
    with pytest.raises(NotApplicableError):
        await r.numbers_come_first(evidence(question("x")))


async def test_too_much_that_cannot_be_bought_is_broken() -> None:
    check = r.what_can_be_bought_comes_first(0.9)
    full, half = question("a", relevant="10", buyable="10"), question("b", relevant="10", buyable="7")
    assert (await check(evidence(full))).status is Status.HELD
    finding = await check(evidence(full, half))
    assert (finding.status, finding.offenders) == (Status.BROKEN, ("b",))
    with pytest.raises(NotApplicableError):
        await check(evidence(question("x")))


def tried(name: str, ruins: str, refused: str) -> Operation:
    return question(name, kind=r.GATE, ruins=ruins, refused=refused, lost="0.1")


async def test_a_gate_that_lets_ruin_through_or_refuses_the_harmless_is_broken() -> None:
    check = r.gate_refuses_only_what_ruins
    good, fine = tried("ruin", "yes", "yes"), tried("fine", "no", "no")
    assert (await check(evidence(good, fine))).status is Status.HELD
    assert (await check(evidence(tried("ruin", "yes", "no"), fine))).offenders == ("ruin",)
    assert (await check(evidence(good, tried("fine", "no", "yes")))).offenders == ("fine",)
    assert (await check(evidence(good))).status is Status.UNKNOWN
    with pytest.raises(NotApplicableError):
        await check(evidence(question("x")))


async def test_taste_that_costs_relevance_is_broken() -> None:
    check = r.taste_costs_no_relevance(0.01)
    stranger = question("a", kind=r.STRANGER)
    assert (await check(evidence(question("a"), stranger))).status is Status.HELD
    assert (await check(evidence(question("a", "0 3 3"), stranger))).offenders == ("a",)
    with pytest.raises(NotApplicableError):
        await check(evidence(question("a")))


async def test_taste_that_moves_a_typed_number_down_is_broken() -> None:
    check = r.taste_hides_no_exact_match
    stranger = question("a", kind=r.STRANGER, form="model", place="1")
    assert (await check(evidence(question("a", form="model", place="1"), stranger))).status is Status.HELD
    assert (await check(evidence(question("a", form="model", place="2"), stranger))).offenders == ("a",)
    words = question("b", kind=r.STRANGER, place="1")
    assert (await check(evidence(question("b", place="5"), words))).status is Status.UNKNOWN


async def test_a_typed_number_that_taste_hides_altogether_is_broken() -> None:
    stranger = question("a", kind=r.STRANGER, form="model", place="1")
    assert (await r.taste_hides_no_exact_match(evidence(question("a", form="model"), stranger))).offenders == ("a",)
