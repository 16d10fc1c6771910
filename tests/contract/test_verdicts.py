"""README's table of verdicts is what docs/verdicts.json says, and that says nothing a run could not have left."""

from __future__ import annotations

import pytest

from labs.engine.discover import ROOT, labs
from labs.verdicts.record import Record, load, problems
from labs.verdicts.table import BEGIN, inserted, markdown

FACTS = ROOT / "docs" / "verdicts.json"


@pytest.fixture
def records() -> list[Record]:
    return load(FACTS)


def by_the_command(page: str, records: list[Record]) -> str:
    return inserted(page, markdown(records, labs(), ROOT))


def test_the_table_in_the_readme_is_what_make_verdicts_would_write(records: list[Record]) -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    assert page == by_the_command(page, records), "README.md is not what docs/verdicts.json says; run: make verdicts"


def test_an_edit_of_the_table_by_hand_is_seen(records: list[Record]) -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    before, marker, table = page.partition(BEGIN)
    for old, new in (("pass", "fail"), (" s |", "0 s |"), ("| 2 |", "| 3 |")):
        forged = before + marker + table.replace(old, new, 1)
        assert forged != page
        assert forged != by_the_command(forged, records)


def test_every_fact_is_well_formed_and_of_a_lab_that_there_is(records: list[Record]) -> None:
    assert records
    assert problems(records) == []
    assert {record.lab for record in records} <= {lab.name for lab in labs()}
