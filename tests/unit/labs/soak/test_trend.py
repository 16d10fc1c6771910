"""The fit finds the slope that was planted, whatever outliers and restarts do."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.soak.trend import fitted, thinned


def line(slope_per_hour: float, seconds: int = 900, every: int = 15, start: float = 50.0) -> list[tuple[float, float]]:
    return [(at, start + slope_per_hour * at / 3600) for at in range(0, seconds, every)]


@given(st.floats(-500, 500))
def test_a_straight_line_has_its_own_slope(slope: float) -> None:
    trend = fitted([line(slope)])
    assert trend is not None
    assert trend.per_hour == pytest.approx(slope, abs=1e-6)


def test_a_quarter_of_wild_points_does_not_turn_a_flat_line() -> None:
    points = line(0.0)
    for number in random.Random(3).sample(range(len(points)), len(points) // 4):
        points[number] = (points[number][0], 5_000.0)
    trend = fitted([points])
    assert trend is not None
    assert abs(trend.per_hour) < 1


def test_noise_hides_no_leak() -> None:
    noise = random.Random(5)
    trend = fitted([[(at, value + noise.gauss(0, 1)) for at, value in line(120.0)]])
    assert trend is not None
    assert trend.per_hour == pytest.approx(120, rel=0.1)


def test_a_restart_is_no_slope() -> None:
    high, low = line(0.0, start=90), [(at + 1000, value) for at, value in line(0.0, start=40)]
    trend = fitted([high, low])
    assert trend is not None
    assert trend.per_hour == 0
    assert trend.points == len(high) + len(low)


def test_a_leak_shows_over_lives_that_are_cut_short() -> None:
    lives = [[(at + 200 * number, 40 + at * 0.1) for at in range(0, 180, 15)] for number in range(5)]
    trend = fitted(lives)
    assert trend is not None
    assert trend.per_hour == pytest.approx(360)
    assert trend.seconds == 165


@pytest.mark.parametrize("lives", [[], [[]], [[(0.0, 1.0)]], [[(0.0, 1.0)], [(5.0, 2.0)]], [[(1.0, 1.0), (1.0, 2.0)]]])
def test_without_two_moments_of_one_life_there_is_no_trend(lives: list[list[tuple[float, float]]]) -> None:
    assert fitted(lives) is None


@given(st.integers(0, 2000), st.integers(2, 300))
def test_thinning_keeps_the_ends_and_the_order(count: int, most: int) -> None:
    points = [(float(number), 0.0) for number in range(count)]
    kept = thinned(points, most)
    assert len(kept) <= max(most, 0)
    assert kept == sorted(kept)
    if count:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
