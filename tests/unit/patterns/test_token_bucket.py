"""A token bucket never gives more than its burst and its rate allow, and never less than what has come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.token_bucket import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 100),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 50)), max_size=50),
)
def test_over_any_span_at_most_burst_and_rate_are_given(
    rate: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    given_out = 0
    for pause, wanted in steps:
        clock.now += pause
        given_out += bucket.take(wanted)
        assert given_out <= burst + rate * clock.now + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 100))
def test_after_long_enough_it_is_full_and_no_fuller(rate: float, burst: int) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    bucket.take(burst)
    clock.now += 10 * burst / rate
    assert bucket.available == burst


def test_what_is_given_back_can_be_taken_again_but_does_not_overflow() -> None:
    bucket = TokenBucket(1, 4, Clock())
    assert bucket.take(10) == 4
    bucket.give_back(3)
    assert bucket.take(10) == 3
    bucket.give_back(100)
    assert bucket.take(10) == 4


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    clock = Clock()
    clock.now = 10
    bucket = TokenBucket(1, 2, clock)
    bucket.take(2)
    clock.now = 5
    assert bucket.available == 0
    clock.now = 11
    assert bucket.available == 1


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (1, 0.5)])
def test_a_bucket_that_could_never_give_a_token_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="token bucket"):
        TokenBucket(rate, burst, Clock())
