"""What must hold of paid orders, judged from outside: the bank's charges against the catalogue's sales, one by one.

Imports nothing from the services and has SQL of its own. What a payment was for is in its metadata, `sku` and `quantity`.
Offenders are merchant references; of a sale that nobody paid for, its payment's id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from labs.engine.model import Evidence, Finding
from labs.invariants.payments import charges_by_reference, type_id

ORDERS = """
SELECT id::text AS id, reference, metadata ->> 'sku' AS sku, coalesce(metadata ->> 'quantity', '1') AS quantity
FROM payments WHERE metadata ? 'sku'
"""
SALES = "SELECT payment_id, sku, quantity::text AS quantity FROM sales"


async def _paid(evidence: Evidence) -> Mapping[str, tuple[str, str, str]]:
    """(reference, sku, quantity) by payment: what the bank has been paid for."""
    charges = await charges_by_reference(evidence)
    rows = await evidence.sql("payments", ORDERS)
    orders = {
        type_id("pay", str(row["id"])): (str(row["reference"]), str(row["sku"]), str(row["quantity"])) for row in rows
    }
    return {payment: order for payment, order in orders.items() if charges.get(order[0], 0) > 0}


async def _sold(evidence: Evidence) -> Mapping[str, list[tuple[str, str]]]:
    """(sku, quantity) of each sale, by payment."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in await evidence.sql("catalog", SALES):
        found[str(row["payment_id"])].append((str(row["sku"]), str(row["quantity"])))
    return found


async def sold_once_for_each_charge(evidence: Evidence) -> Finding:
    """Each charge for an article is one sale of just this article and quantity, and there is no other sale."""
    paid, sold = await _paid(evidence), await _sold(evidence)
    lost = [order[0] for payment, order in paid.items() if payment not in sold]
    doubled = [paid[payment][0] for payment, sales in sold.items() if payment in paid and len(sales) > 1]
    other = [
        paid[payment][0]
        for payment, sales in sold.items()
        if payment in paid and any(sale != paid[payment][1:] for sale in sales)
    ]
    unpaid = sorted(sold.keys() - paid.keys())
    counts = {"lost": len(lost), "more than once": len(doubled), "of something else": len(other), "unpaid": len(unpaid)}
    note = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    return Finding.of(sorted({*lost, *doubled, *other, *unpaid}), note)


async def still_unsold(evidence: Evidence) -> str:
    """Probe: "" once every charge for an article is a sale."""
    waiting = (await _paid(evidence)).keys() - (await _sold(evidence)).keys()
    return f"{len(waiting)} paid orders are not sold yet" if waiting else ""
