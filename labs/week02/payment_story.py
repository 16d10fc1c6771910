"""What happened to one payment, step by step, from the stores: for the page that explains an offender."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from labs.engine import Evidence, NotApplicableError, Row, StoryLine
from labs.invariants.payments import TOPIC, type_id

# A call that is not a charge has no source; it belongs to the card by the reference of one that has.
BANK_REQUESTS = (
    "SELECT at, path, outcome, behaviour FROM requests"
    " WHERE source = $1 OR reference IN (SELECT reference FROM charges WHERE source = $1) ORDER BY id"
)
BANK_EFFECTS = (
    "SELECT e.at, e.kind, e.amount, e.charge_id FROM effects e JOIN charges c ON c.id = e.charge_id"
    " WHERE c.source = $1 ORDER BY e.id"
)
OUR_PAYMENTS = (
    "SELECT id::text AS id, status, created_at, updated_at FROM payments WHERE reference = $1 ORDER BY created_at"
)
OUR_OPERATIONS = (
    "SELECT o.kind, o.status, o.attempts, o.created_at, o.resolved_at"
    " FROM operations o JOIN payments p ON p.id = o.payment_id WHERE p.reference = $1 ORDER BY o.created_at"
)


def _at(evidence: Evidence, row: Row, column: str) -> float | None:
    moment = row[column]
    return evidence.since_start(moment) if isinstance(moment, datetime) else None


def _line(at_seconds: float | None, who: str, what: str) -> list[StoryLine]:
    return [] if at_seconds is None else [StoryLine(at_seconds, who, what)]


async def _operations(evidence: Evidence, reference: str) -> Sequence[Row]:
    try:
        return await evidence.sql("payments", OUR_OPERATIONS, reference)
    except NotApplicableError:
        return ()


async def bank_lines(evidence: Evidence, reference: str) -> list[StoryLine]:
    """What the bank logged and did for the card of this reference."""
    lines = []
    for row in await evidence.sql("bank", BANK_REQUESTS, f"tok_{reference}"):
        struck = f", struck by {row['behaviour']}" if row["behaviour"] else ""
        lines += _line(_at(evidence, row, "at"), "bank", f"{row['path']}: {row['outcome']}{struck}")
    for row in await evidence.sql("bank", BANK_EFFECTS, f"tok_{reference}"):
        lines += _line(_at(evidence, row, "at"), "bank", f"{row['kind']} of {row['amount']} ({row['charge_id']})")
    return lines


async def our_lines(evidence: Evidence, reference: str) -> list[StoryLine]:
    """What our tables hold of this reference."""
    lines = []
    for row in await evidence.sql("payments", OUR_PAYMENTS, reference):
        payment = type_id("pay", str(row["id"]))
        lines += _line(_at(evidence, row, "created_at"), "payments", f"{payment} inserted")
        lines += _line(_at(evidence, row, "updated_at"), "payments", f"{payment} is {row['status']} from here on")
    for row in await _operations(evidence, reference):
        lines += _line(_at(evidence, row, "created_at"), "payments", f"operation {row['kind']} begins")
        ending = f"operation {row['kind']} {row['status']} after {row['attempts']} attempts"
        lines += _line(_at(evidence, row, "resolved_at"), "payments", ending)
    return lines


async def _topic_lines(evidence: Evidence, reference: str) -> list[StoryLine]:
    wanted = f'"{reference}"'.encode()
    return [
        StoryLine(record.at, "topic", f"{record.headers.get('ce_type')} of {record.key}")
        for record in await evidence.topic(TOPIC)
        if wanted in record.value
    ]


async def story(evidence: Evidence, reference: str) -> Sequence[StoryLine]:
    """What the bank, our tables and the topic hold of one merchant reference, in time order."""
    lines = await bank_lines(evidence, reference)
    lines += await our_lines(evidence, reference)
    lines += await _topic_lines(evidence, reference)
    return sorted(lines, key=lambda line: line.at)
