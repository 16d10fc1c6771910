"""Who is in which arm: always the same, by shares, and moved as little as can be."""

from __future__ import annotations

from collections import Counter

import pytest

from services.search.ranking.experiment import Arm, Experiment

PEOPLE = [f"user-{number}" for number in range(4000)]


def split(*arms: tuple[str, float], name: str = "autumn") -> Experiment:
    return Experiment(name, tuple(Arm(ranking, share) for ranking, share in arms))


def test_somebody_always_sees_the_same() -> None:
    first, second = split(("bm25", 1), ("boosted", 1)), split(("boosted", 1), ("bm25", 1))
    assert [first.arm(each) for each in PEOPLE] == [second.arm(each) for each in PEOPLE]


def test_arms_get_their_shares() -> None:
    seen = Counter(map(split(("bm25", 1), ("boosted", 3)).arm, PEOPLE))
    assert seen["boosted"] / len(PEOPLE) == pytest.approx(0.75, abs=0.03)


def test_a_growing_arm_takes_people_and_moves_no_others() -> None:
    before, after = split(("a", 1), ("b", 1), ("c", 1)), split(("a", 2), ("b", 1), ("c", 1))
    moved = [(before.arm(each), after.arm(each)) for each in PEOPLE if before.arm(each) != after.arm(each)]
    assert moved
    assert {to for _, to in moved} == {"a"}


def test_a_closed_arm_has_nobody() -> None:
    assert {split(("a", 0), ("b", 1)).arm(each) for each in PEOPLE} == {"b"}


def test_experiments_do_not_share_their_draws() -> None:
    one, other = split(("a", 1), ("b", 1)), split(("a", 1), ("b", 1), name="spring")
    same = sum(one.arm(each) == other.arm(each) for each in PEOPLE)
    assert same / len(PEOPLE) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("person", ["", "\udc80", "x" * 10_000])
def test_any_name_has_an_arm(person: str) -> None:
    assert split(("a", 1), ("b", 1)).arm(person) in ("a", "b")


@pytest.mark.parametrize(
    ("arms", "says"),
    [((), "at least one arm"), ((("a", 0.0),), "at least one arm"), ((("a", 1.0), ("b", -1.0)), "at least 0"),
     ((("a", 1.0), ("a", 1.0)), "named twice")],
)  # fmt: skip
def test_an_experiment_without_sense_is_refused(arms: tuple[tuple[str, float], ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        split(*arms)
