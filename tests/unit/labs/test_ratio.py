"""A ratio decides only where two equal stretches agree."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from labs.engine import Status
from labs.engine.ratio import compare

rates = st.floats(min_value=1, max_value=10_000)


def test_what_keeps_its_share_of_two_equal_stretches_holds() -> None:
    assert compare(1000, 1010, 970, at_least=0.95).status is Status.HELD


def test_what_loses_more_than_is_allowed_is_broken_and_says_by_how_much() -> None:
    finding = compare(1000, 1000, 900, at_least=0.95)
    assert finding.status is Status.BROKEN
    assert "90.0% of 1000" in finding.note


def test_two_equal_stretches_that_differ_by_more_than_half_of_the_allowed_loss_leave_it_unknown() -> None:
    assert compare(1000, 960, 960, at_least=0.95).status is Status.UNKNOWN


def test_a_loss_far_beyond_the_noise_is_broken_all_the_same() -> None:
    assert compare(1000, 900, 300, at_least=0.95).status is Status.BROKEN


@pytest.mark.parametrize("first", [0.0, -1.0])
def test_nothing_measured_before_the_fault_is_unknown(first: float) -> None:
    assert compare(first, 100, 100, at_least=0.95).status is Status.UNKNOWN


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        compare(1, 1, 1, at_least=share)


@given(rates, rates, st.floats(min_value=0, max_value=10_000), st.floats(min_value=0.5, max_value=0.99))
def test_it_never_holds_below_the_share_and_the_order_of_equal_stretches_does_not_matter(
    first: float, second: float, under_fault: float, share: float
) -> None:
    finding = compare(first, second, under_fault, at_least=share)
    assert finding.status is compare(second, first, under_fault, at_least=share).status
    assume(under_fault < share * (first + second) / 2 * (1 - 1e-9))
    assert finding.status is not Status.HELD
