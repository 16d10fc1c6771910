"""BENCHMARKS.md and the README's figures are what docs/benchmarks.json says, and that says nothing a run could not have left."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks.document import BEGIN, document, headlines, inserted
from benchmarks.records import Record, load, problems
from tests.contract.test_pages import ROOT

FACTS, PAGE, README = ROOT / "docs" / "benchmarks.json", ROOT / "BENCHMARKS.md", ROOT / "README.md"
AGAIN = "is not what docs/benchmarks.json says; run: make bench write=1"


@pytest.fixture
def records() -> list[Record]:
    return load(FACTS)


def test_the_page_is_what_the_command_would_write(records: list[Record]) -> None:
    assert PAGE.read_text("utf-8") == document(records), f"BENCHMARKS.md {AGAIN}"


def test_the_readme_has_the_headlines_of_it(records: list[Record]) -> None:
    page = README.read_text("utf-8")
    assert page == inserted(page, headlines(records)), f"README.md {AGAIN}"


def test_an_edit_by_hand_is_seen(records: list[Record]) -> None:
    page = README.read_text("utf-8")
    before, marker, figures = page.partition(BEGIN)
    for old, new in (("met", "missed"), ("/s", "0/s"), ("0.", "1.")):
        forged = before + marker + figures.replace(old, new, 1)
        assert forged != page
        assert forged != inserted(forged, headlines(records))


def test_a_figure_that_changes_changes_the_page(records: list[Record]) -> None:
    assert records
    for place, one in enumerate(records):
        other = msgspec.structs.replace(one, took_seconds=one.took_seconds + 60)
        assert document([*records[:place], other, *records[place + 1 :]]) != document(records)


def test_every_fact_is_well_formed_and_of_a_whole_run(records: list[Record]) -> None:
    assert problems(records) == []
    assert all(one.whole for one in records)
