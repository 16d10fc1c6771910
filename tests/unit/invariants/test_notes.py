"""The template's checker is seen red on a planted loss, green without it."""

from __future__ import annotations

from typing import cast

import pytest

from labs.engine.model import EvidenceError, NotApplicableError, Outcome, Row, Status
from labs.invariants import notes as n
from tests.unit.invariants.evidence import ListedEvidence, operation

HISTORY = (operation("a", Outcome.OK), operation("b", Outcome.UNKNOWN), operation("c", Outcome.FAIL))


def table(*keys: str) -> ListedEvidence:
    return ListedEvidence({n.KEPT: [cast("Row", {"key": key}) for key in keys]}, HISTORY)


@pytest.mark.parametrize("keys", [("a",), ("a", "b"), ("a", "c")])
async def test_what_was_acknowledged_is_there_and_the_rest_may_be(keys: tuple[str, ...]) -> None:
    assert (await n.acknowledged_is_kept(table(*keys))).status is Status.HELD


async def test_an_acknowledged_note_that_is_gone_is_named() -> None:
    found = await n.acknowledged_is_kept(table("b", "c"))
    assert (found.status, found.offenders) == (Status.BROKEN, ("a",))


async def test_a_store_that_cannot_be_read_is_no_store_without_notes() -> None:
    with pytest.raises(EvidenceError):
        await n.acknowledged_is_kept(ListedEvidence(history=HISTORY, broken=True))
    with pytest.raises(NotApplicableError):
        await n.acknowledged_is_kept(ListedEvidence(history=HISTORY))


async def test_reconcile_counts_a_note_once() -> None:
    assert await n.notes_by_key(table("a", "b")) == {"a": 1, "b": 1}


async def test_the_store_has_settled_when_no_statement_is_under_way() -> None:
    def working(statements: int) -> ListedEvidence:
        return ListedEvidence({n.UNDER_WAY: [cast("Row", {"statements": statements})]})

    assert await n.statements_under_way(working(0)) == ""
    assert await n.statements_under_way(working(3)) == "3 statements are under way"
