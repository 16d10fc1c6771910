from __future__ import annotations

import pytest

from benchmarks.rows import NONE, Aim, Figures, Row, Shall, Standing, Unit, beside, of_rounds, one, rounds, several
from benchmarks.shown import table, verdict
from benchmarks.systems import FIGURES
from tests.unit.benchmarks.results import paid, searched


@pytest.mark.parametrize(
    ("shall", "below", "equal", "above"),
    [
        (Shall.BE_AT_LEAST, False, True, True),
        (Shall.BE_ABOVE, False, False, True),
        (Shall.BE_AT_MOST, True, True, False),
        (Shall.BE_BELOW, True, False, False),
    ],
)
def test_a_figure_is_compared_as_its_aim_says(shall: Shall, below: bool, equal: bool, above: bool) -> None:
    assert [shall.hold(value, 10) for value in (9.99, 10, 10.01)] == [below, equal, above]


@pytest.mark.parametrize(
    ("unit", "value", "text", "bound"),
    [
        (Unit.PER_SECOND, 1234.5, "1,234/s", "1,234.5/s"),
        (Unit.SHARE, 0.05, "5.0 %", "5 %"),
        (Unit.MILLISECONDS, 100.0, "100.0 ms", "100 ms"),
        (Unit.RATIO, 0.3, "0.30", "0.3"),
    ],
)
def test_a_number_has_its_unit_and_a_bound_no_more_places_than_it_needs(
    unit: Unit, value: float, text: str, bound: str
) -> None:
    assert (unit.of(value), unit.bound(value)) == (text, bound)


def test_a_median_stands_before_the_least_and_the_most_where_they_differ() -> None:
    assert of_rounds([3.0, 1.0, 2.0], Unit.PER_SECOND) == "2/s (1 to 3)"
    assert of_rounds([2.0, 2.1], Unit.PER_SECOND) == "2/s"
    assert of_rounds([], Unit.PER_SECOND) == NONE


HALF = Aim(Shall.BE_AT_LEAST, 0.5, Unit.RATIO, "The reason.", of_limit=True)


def test_an_aim_of_the_limit_judges_the_ratio() -> None:
    met = beside("x", [60.0], [100.0], "bare loop", Unit.PER_SECOND, HALF)
    missed = beside("x", [40.0], [100.0], "bare loop", Unit.PER_SECOND, HALF)
    assert (met.ratio, met.standing, met.limit) == (0.6, Standing.MET, "100/s bare loop")
    assert missed.standing is Standing.MISSED
    assert beside("x", [40.0], [100.0], "", Unit.PER_SECOND, HALF, ratio=0.7).standing is Standing.MET


@pytest.mark.parametrize("limits", [[], [0.0]])
def test_what_was_not_measured_has_neither_met_nor_missed(limits: list[float]) -> None:
    row = beside("x", [40.0], limits, "bare loop", Unit.PER_SECOND, HALF)
    assert (row.ratio, row.standing, verdict(row)) == (None, Standing.UNKNOWN, "unknown: not measured")
    assert one("x", None, Unit.COUNT, HALF).standing is Standing.UNKNOWN


def test_what_cannot_tell_is_unknown_with_its_reason_however_good_it_looks() -> None:
    row = beside("x", [90.0], [100.0], "", Unit.PER_SECOND, HALF, cannot_tell="A/A differs")
    assert verdict(row) == "unknown: A/A differs"


def test_without_an_aim_there_is_nothing_to_judge() -> None:
    assert rounds("x", [1.0], Unit.COUNT).standing is None
    assert several("x", {"a": 1.0, "b": 2.0}, Unit.MEBIBYTES) == Row("x", "a 1 MiB, b 2 MiB")


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_that_found_nothing_can_be_shown_and_meets_no_aim(name: str) -> None:
    figures = FIGURES[name](docs=1000) if name == "search" else FIGURES[name]()
    assert table(name, figures).row_count == len(figures.rows())
    met = [row.figure for row in figures.rows() if row.standing is Standing.MET]
    assert met in ([], ["fired over HTTP, jitter 30 s"]), "zero of zero jobs"
    assert figures.LIMIT
    assert figures.title()


@pytest.mark.parametrize("figures", [paid(), searched()])
def test_every_aim_says_what_a_miss_runs_into(figures: Figures) -> None:
    aims = [row.aim for row in figures.rows() if row.aim is not None]
    assert aims
    assert all(aim.limit.endswith(".") for aim in aims)
