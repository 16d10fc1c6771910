"""nDCG, MRR and recall are what their definitions say, by examples worked out by hand and by properties."""

from __future__ import annotations

from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.evaluation.measures import DEPTH, ndcg, scores

grades = st.lists(st.integers(0, 3), max_size=30)


def test_an_example_worked_out_by_hand() -> None:
    ideal = 7 + 3 / log2(3) + 1 / 2
    assert ndcg([1, 0, 3], [3, 2, 1]) == pytest.approx((1 + 7 / 2) / ideal)


@given(grades)
def test_the_best_order_has_one_and_no_order_more(judged: list[int]) -> None:
    best = ndcg(sorted(judged, reverse=True), judged)
    assert best == (1.0 if any(judged) else 0.0)
    assert 0.0 <= ndcg(judged, judged) <= best + 1e-12


@given(st.lists(st.integers(0, 3), min_size=2, max_size=DEPTH), st.data())
def test_swapping_a_better_document_up_never_costs(found: list[int], data: st.DataObject) -> None:
    low = data.draw(st.integers(1, len(found) - 1))
    high = data.draw(st.integers(0, low - 1))
    if found[low] > found[high]:
        better = list(found)
        better[low], better[high] = better[high], better[low]
        assert ndcg(better, found) > ndcg(found, found)


def test_what_stands_below_the_tenth_place_does_not_count() -> None:
    assert ndcg([0] * 10 + [3], [3]) == 0.0


def test_scores_of_an_answer() -> None:
    judged = {"a": 3, "b": 2, "c": 1}
    found = scores(["x", "c", "b", "y"], judged)
    assert found.reciprocal_rank == pytest.approx(1 / 3)
    assert found.recall == 0.5
    assert not found.zero


def test_an_empty_answer_is_a_zero_result_and_worth_nothing() -> None:
    assert scores([], {"a": 3}) == scores([], {"a": 3, "b": 2})
    assert scores([], {"a": 3}).zero


def test_a_document_that_comes_twice_counts_once() -> None:
    assert scores(["a", "a", "a"], {"a": 3, "b": 3}) == scores(["a"], {"a": 3, "b": 3})


def test_a_query_without_any_answer_counts_as_nothing_found() -> None:
    assert scores(["x"], {}).ndcg == 0.0
    assert scores(["x"], {}).recall == 0.0


def test_recall_counts_as_many_as_fit() -> None:
    judged = {f"d{number}": 3 for number in range(200)}
    assert scores(list(judged), judged).recall == 1.0
