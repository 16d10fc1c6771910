"""Offenders of day 2 that are queries have a story, too: what the same words found before, and after."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from labs.engine import Evidence, Operation, Outcome, Phase
from labs.week07.product_story import story


def query(number: int, status: int, **result: str) -> Operation:
    outcome = Outcome.OK if status == 200 else Outcome.FAIL
    return Operation(
        id=str(number), key=f"q{number}", kind="search", phase=Phase.INJECT, intended_at=float(number), sent_at=float(number),
        done_at=number + 0.1, attempts=1, status=status, outcome=outcome, error=None, result=result,
    )  # fmt: skip


def told(offender: str, *history: Operation) -> list[str]:
    evidence: Any = SimpleNamespace(history=history)
    return [line.what for line in asyncio.run(story(cast("Evidence", evidence), offender))]


def test_a_query_that_suddenly_found_nothing_is_told_with_its_like() -> None:
    history = (
        query(1, 200, text="lamp", hits="20"),
        query(2, 200, text="shoe", hits="3"),
        query(3, 200, text="lamp", hits="0"),
    )
    assert told("q3 found nothing", *history) == [
        "wants to search for lamp", "finds 20 products on the first page",
        "wants to search for lamp", "finds 0 products on the first page",
    ]  # fmt: skip


def test_a_query_that_failed_is_told_alone() -> None:
    history = (query(1, 200, text="lamp", hits="20"), query(2, 502))
    assert told("q2 502", *history) == ["wants to search for something", "is told 502"]
