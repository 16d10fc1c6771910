"""When an entry is made anew before its end."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.early_expiration import due, jittered

draws = st.floats(0, 1, exclude_min=True)


@given(draws, st.floats(0, 100), st.floats(0, 1000))
def test_what_has_ended_is_always_due(draw: float, cost: float, late: float) -> None:
    assert due(50.0 + late, 50.0, cost, draw)


@given(draws, st.floats(0.001, 100))
def test_what_costs_nothing_is_never_due_early(draw: float, left: float) -> None:
    assert not due(0.0, left, 0.0, draw)


@pytest.mark.parametrize(("left", "most"), [(1.0, 0.38), (5.0, 0.008), (20.0, 0.0)])
def test_few_readers_are_early_and_the_fewer_the_longer_it_still_lives(left: float, most: float) -> None:
    rng = Random(1)
    early = sum(due(0.0, left, 1.0, 1 - rng.random()) for _ in range(10_000))
    # The chance is exp(-left / cost).
    assert early / 10_000 <= most


def test_what_costs_more_is_made_anew_earlier() -> None:
    rng = Random(1)
    chances = [sum(due(0.0, 2.0, cost, 1 - rng.random()) for _ in range(5_000)) for cost in (0.1, 0.5, 2.0)]
    assert chances == sorted(chances)
    assert chances[0] < chances[2]


@given(st.floats(0.1, 1000), st.floats(0, 0.9), st.floats(0, 1, exclude_max=True))
def test_a_jittered_time_stays_within_its_share(seconds: float, share: float, draw: float) -> None:
    assert seconds * (1 - share) * 0.999 <= jittered(seconds, share, draw) <= seconds * (1 + share) * 1.001
