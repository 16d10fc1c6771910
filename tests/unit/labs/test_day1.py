"""The story of one operation, and what the day promises to show."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import cast

import pytest

from labs.engine import Row, VariantRole
from labs.week02.day1_timeouts import CHARGES, LAB, RATE, WORKERS, story
from tests.unit.invariants.evidence import START, ListedEvidence


async def test_the_story_numbers_what_came_and_what_was_served() -> None:
    rows = [
        cast("Row", {"at": START + timedelta(seconds=second), "outcome": outcome})
        for second, outcome in ((1, "arrived"), (2, "arrived"), (30, "captured"), (31, "replayed"))
    ]
    lines = await story(ListedEvidence({CHARGES: rows}), "r-1")
    assert [(line.at, line.who, line.what) for line in lines] == [
        (1.0, "bank", "request 1 to charge this card joins the queue"),
        (2.0, "bank", "request 2 to charge this card joins the queue"),
        (30.0, "bank", "a worker is done with request 1: captured"),
        (31.0, "bank", "a worker is done with request 2: replayed"),
    ]


async def test_a_record_of_another_shape_surfaces() -> None:
    with pytest.raises(TypeError, match="other columns"):
        await story(ListedEvidence({CHARGES: [cast("Row", {"at": "noon", "outcome": "arrived"})]}), "r-1")


def test_the_bank_is_sixty_per_cent_busy_before_it_becomes_slow() -> None:
    workers = json.loads(WORKERS)["workers"]
    assert RATE * workers["service_ms"] / 1000 / workers["count"] == pytest.approx(0.6)


def test_the_load_goes_on_for_a_minute_after_the_heal_where_nothing_recovers() -> None:
    holds = {variant.role: variant.hold for variant in LAB.variants.values()}
    assert holds[VariantRole.NAIVE] == 60
    assert (holds[VariantRole.ENGINEERED] or 0) >= 13
