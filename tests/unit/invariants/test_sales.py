"""A paid order that is lost, sold twice, sold as something else or not paid for is named."""

from __future__ import annotations

from uuid import UUID

import pytest

from labs.engine.model import Finding, Row, Status
from labs.invariants import sales
from labs.invariants.payments import CHARGES_PER_SOURCE, type_id
from tests.unit.invariants.evidence import ListedEvidence

A, B = UUID(int=1), UUID(int=2)


def order(identity: UUID, reference: str) -> Row:
    return {"id": str(identity), "reference": reference, "sku": "X-1", "quantity": "2"}


def sale(identity: UUID, quantity: str = "2") -> Row:
    return {"payment_id": type_id("pay", str(identity)), "sku": "X-1", "quantity": quantity}


def evidence(*sold: Row, charged: tuple[str, ...] = ("a", "b")) -> ListedEvidence:
    return ListedEvidence(
        {
            CHARGES_PER_SOURCE: [{"source": f"tok_{key}", "charges": 1} for key in charged],
            sales.ORDERS: [order(A, "a"), order(B, "b")],
            sales.SALES: list(sold),
        }
    )


async def found(*sold: Row, charged: tuple[str, ...] = ("a", "b")) -> Finding:
    return await sales.sold_once_for_each_charge(evidence(*sold, charged=charged))


async def test_one_sale_for_each_charge_holds_and_what_was_not_charged_is_not_sold() -> None:
    assert (await found(sale(A), sale(B))).status is Status.HELD
    assert (await found(sale(A), charged=("a",))).status is Status.HELD


@pytest.mark.parametrize(
    ("sold", "charged", "offender", "note"),
    [
        ((sale(A),), ("a", "b"), "b", "1 lost"),
        ((sale(A), sale(B), sale(B)), ("a", "b"), "b", "1 more than once"),
        ((sale(A), sale(B, "3")), ("a", "b"), "b", "1 of something else"),
        ((sale(A), sale(B)), ("a",), type_id("pay", str(B)), "1 unpaid"),
    ],
)
async def test_each_planted_bug_is_named(
    sold: tuple[Row, ...], charged: tuple[str, ...], offender: str, note: str
) -> None:
    finding = await found(*sold, charged=charged)
    assert (finding.status, finding.offenders, finding.note) == (Status.BROKEN, (offender,), note)


async def test_the_probe_waits_for_what_is_paid() -> None:
    assert await sales.still_unsold(evidence(sale(A))) == "1 paid orders are not sold yet"
    assert await sales.still_unsold(evidence(sale(A), sale(B))) == ""
