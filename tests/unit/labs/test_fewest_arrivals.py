from itertools import takewhile

import pytest

from labs.engine.phases import fewest_arrivals
from loadtests.pacing import schedule


@pytest.mark.parametrize(("rate", "seconds"), [(3.0, 10.0), (20.0, 3.0), (50.0, 10.0)])
def test_a_seed_with_few_arrivals_is_not_taken_for_a_generator_that_stands_still(rate: float, seconds: float) -> None:
    for seed in range(1_000):
        arrived = arrivals(rate, seed, seconds)
        assert arrived >= fewest_arrivals(rate * seconds), seed


@pytest.mark.parametrize("expected", [3.0, 30.0, 500.0])
def test_a_generator_that_stands_still_is_seen(expected: float) -> None:
    assert fewest_arrivals(expected) >= 1


def test_with_many_arrivals_a_third_may_not_be_missing() -> None:
    assert fewest_arrivals(500.0) > 330


def arrivals(rate: float, seed: int, seconds: float) -> int:
    return sum(1 for _ in takewhile(lambda at: at <= seconds, schedule(rate, seed)))
