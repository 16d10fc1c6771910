from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.backoff import Backoff


@given(st.floats(0.001, 10), st.floats(1, 1000), st.integers(0, 10_000), st.integers())
def test_a_delay_lies_between_zero_and_the_doubled_base_or_the_cap(
    base: float, factor: float, attempt: int, seed: int
) -> None:
    backoff = Backoff(base, base * factor)
    delay = backoff.delay(attempt, random.Random(seed))
    assert 0 <= delay <= backoff.ceiling(attempt) <= backoff.cap


def test_the_ceiling_doubles_until_the_cap() -> None:
    backoff = Backoff(0.25, 3.0)
    assert [backoff.ceiling(attempt) for attempt in range(6)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_jitter_is_full_so_that_delays_are_spread_over_the_whole_range() -> None:
    chance = random.Random(1)
    delays = [Backoff(1, 8).delay(3, chance) for _ in range(400)]
    assert min(delays) < 0.4
    assert max(delays) > 7.6
    assert 3.5 < sum(delays) / len(delays) < 4.5


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_an_impossible_backoff_is_refused(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="0 < base <= cap"):
        Backoff(base, cap)


def test_attempts_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="counted from 0"):
        Backoff(1, 2).ceiling(-1)
