"""The table of the week's page says what the libraries do when they are run, and why it matters holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.week02 import breaker_libraries as b

pytestmark = pytest.mark.slow

WEEK = Path(__file__).resolve().parents[3] / "labs" / "week02"


async def test_the_page_prints_what_is_measured() -> None:
    pages = [page.read_text("utf-8") for page in (WEEK / "README.md", WEEK / "parts" / "day3.md") if page.exists()]
    measured = b.markdown(await b.measure_all())
    assert any(measured in page for page in pages), measured


async def test_ours_opens_where_counters_of_failures_in_a_row_do_not() -> None:
    ours, others = b.SUBJECTS[0], b.SUBJECTS[1:]
    mixed = [b.fails if letter == "F" else b.succeeds for letter in b.PATTERN]
    assert await b.opens_after(ours, mixed) is not None
    for other in others:
        assert await b.opens_after(other, mixed, calls=100) is None


async def test_all_of_them_open_when_everything_fails() -> None:
    for subject in b.SUBJECTS:
        assert await b.opens_after(subject, [b.fails], calls=100) is not None
