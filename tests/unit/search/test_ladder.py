"""The written ladder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.ladder import Pressure, Rung, rung


@pytest.mark.parametrize(
    ("load", "left", "answers", "expected"),
    [
        (0.0, 1.0, True, Rung.FULL),
        (0.74, 1.0, True, Rung.FULL),
        (0.75, 1.0, True, Rung.NO_FACETS),
        (0.0, 0.1, True, Rung.NO_FACETS),
        (1.0, 1.0, True, Rung.NO_PERSONALISATION),
        (2.0, 1.0, True, Rung.CACHED),
        (0.0, 0.02, True, Rung.CACHED),
        (0.0, 1.0, False, Rung.CACHED),
    ],
)
def test_each_rung_has_its_reason(load: float, left: float, answers: bool, expected: Rung) -> None:
    assert rung(Pressure(load, left, answers)) is expected


pressures = st.tuples(st.floats(0, 5), st.floats(0, 5))


@given(pressures, pressures)
def test_more_load_and_less_time_never_lead_up(one: tuple[float, float], other: tuple[float, float]) -> None:
    better = Pressure(min(one[0], other[0]), max(one[1], other[1]))
    worse = Pressure(max(one[0], other[0]), min(one[1], other[1]))
    assert rung(better) <= rung(worse) < Rung.POPULAR
