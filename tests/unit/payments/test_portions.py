"""A file in portions says what the whole file says."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from services.kit import ids
from services.payments.domain import OPERATION_PREFIX
from services.payments.portions import Portion, split
from services.payments.reconcile import Line

DAY = date(2026, 3, 5)
MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)


def line(began: datetime | None, charge: str = "ch_1") -> Line:
    """Of an operation that began then; None for a reference that is none of ours."""
    at_ms = None if began is None else int(began.timestamp() * 1000)
    reference = "" if at_ms is None else ids.encode(OPERATION_PREFIX, ids.uuid7(at_ms=at_ms))
    return Line(charge, reference, "capture", 100, "EUR", MIDNIGHT)


def drawn(seed: int, count: int) -> list[Line]:
    chance = random.Random(seed)
    found = []
    for number in range(count):
        began = MIDNIGHT + timedelta(hours=chance.uniform(-30, 30))
        found.append(line(None if chance.random() < 0.1 else began, f"ch_{number}"))
    return found


def own(portions: list[Portion]) -> list[tuple[datetime, datetime]]:
    return [each.began for each in portions if each.began is not None]


@pytest.mark.parametrize("seed", range(10))
def test_each_line_is_in_one_portion_and_in_the_one_of_its_second(seed: int) -> None:
    lines = drawn(seed, 500)
    portions = split(DAY, lines, 20)
    assert Counter(one for each in portions for one in each.lines()) == Counter(lines)
    for each in portions:
        for one in each.lines():
            operation = ids.decode(OPERATION_PREFIX, one.reference)
            began = None if operation is None else datetime.fromtimestamp((operation.int >> 80) / 1000, UTC)
            of_these_days = began is not None and MIDNIGHT - timedelta(days=1) <= began < MIDNIGHT + timedelta(days=1)
            assert of_these_days == (each.began is not None)
            if began is not None and each.began is not None:
                assert each.began[0] <= began < each.began[1]


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 500])
def test_the_portions_span_the_day_and_the_one_before_without_a_gap(count: int) -> None:
    spans = own(split(DAY, drawn(count, count), 20))
    assert all(end == begin for (_, end), (begin, _) in pairwise(spans))
    assert spans[0][0] == MIDNIGHT - timedelta(days=1)
    assert spans[-1][1] == MIDNIGHT + timedelta(days=1)


def test_portions_are_no_larger_than_they_must_be() -> None:
    lines = [line(MIDNIGHT + timedelta(seconds=number % 100), f"ch_{number}") for number in range(1000)]
    portions = split(DAY, lines, 50)
    assert {len(each.packed) for each in portions if each.packed} == {50}
    nameless = [line(None, f"ch_{number}") for number in range(5000)]
    assert max(len(each.packed) for each in split(DAY, nameless, 50)) < 100


def test_what_stands_in_the_file_twice_is_in_one_portion() -> None:
    lines = drawn(3, 300)
    for each in split(DAY, [*lines, *lines], 20):
        assert set(Counter(each.lines()).values()) <= {2}
