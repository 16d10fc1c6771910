"""What must hold of payments, judged from outside: the client's history, our tables, the bank's own record, the topic.

Imports nothing from the services and has SQL of its own, so that checker and service cannot be blind together. Offenders
are merchant references, in the order in which the load drew them. A payment's source is `tok_<reference>`, which joins our world and the bank's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from labs.engine.model import Evidence, Finding, Outcome, Row, TopicRecord

TOPIC = "payments.payment.v1"
CAPTURED_EVENT = "payments.payment.captured"
SOURCE_PREFIX = "tok_"

CHARGES_PER_SOURCE = """
WITH per_charge AS (
    SELECT charge_id,
           sum(amount) FILTER (WHERE kind = 'capture') AS captured,
           coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded
    FROM effects GROUP BY charge_id
)
SELECT c.source, count(*) AS charges
FROM per_charge p JOIN charges c ON c.id = p.charge_id
WHERE p.captured > p.refunded
GROUP BY c.source
"""

PAID_PAYMENTS = """
SELECT source, count(*) AS payments
FROM payments WHERE status IN ('captured', 'partially_refunded') GROUP BY source
"""

MONEY_AT_THE_BANK = """
SELECT c.source, c.currency, count(DISTINCT c.id) AS charges,
       sum(CASE e.kind WHEN 'capture' THEN e.amount WHEN 'refund' THEN -e.amount ELSE 0 END)::bigint AS amount
FROM effects e JOIN charges c ON c.id = e.charge_id
WHERE EXISTS (SELECT FROM effects x WHERE x.charge_id = c.id AND x.kind = 'capture')
GROUP BY c.source, c.currency
"""

# A program without partial captures and refunds has no columns for them: what it took is then the whole amount.
MONEY_HERE = """
SELECT p.source, p.currency, count(*) AS payments,
       sum(coalesce((to_jsonb(p) ->> 'captured_amount')::bigint, p.amount)
           - coalesce((to_jsonb(p) ->> 'refunded_amount')::bigint, 0))::bigint AS amount
FROM payments p WHERE p.status IN ('captured', 'partially_refunded', 'refunded')
GROUP BY p.source, p.currency
"""

CAPTURED_PAYMENTS = """
SELECT id::text AS id, reference FROM payments WHERE status IN ('captured', 'partially_refunded', 'refunded')
"""

UNBALANCED = """
SELECT coalesce(min(p.reference), e.transaction_id::text) AS reference, e.currency, sum(e.amount) AS balance
FROM ledger_entries e
LEFT JOIN ledger_transactions t ON t.id = e.transaction_id
LEFT JOIN payments p ON p.id = t.payment_id
GROUP BY e.transaction_id, e.currency HAVING sum(e.amount) <> 0
"""

LEDGER_AGAINST_PAYMENTS = """
WITH moved AS (
    SELECT t.payment_id,
           coalesce(sum(e.amount) FILTER (WHERE t.kind = 'capture' AND e.amount > 0), 0) AS captured,
           coalesce(sum(e.amount) FILTER (WHERE t.kind = 'refund' AND e.amount > 0), 0) AS refunded
    FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
    GROUP BY t.payment_id
)
SELECT coalesce(p.reference, m.payment_id::text) AS reference
FROM payments p FULL JOIN moved m ON m.payment_id = p.id
WHERE p.id IS NULL
   OR (p.status IN ('captured', 'partially_refunded', 'refunded') AND p.captured_amount = 0)
   OR p.captured_amount <> coalesce(m.captured, 0)
   OR p.refunded_amount <> coalesce(m.refunded, 0)
"""

OPEN_OPERATIONS = """
SELECT DISTINCT p.reference
FROM operations o JOIN payments p ON p.id = o.payment_id WHERE o.status IN ('pending', 'unknown')
"""

T = TypeVar("T")


def _as(kind: type[T], value: object) -> T:
    """A column has the type that the query gives it; anything else is a broken checker and must surface."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _texts(rows: Sequence[Row], column: str) -> list[str]:
    return [_as(str, row[column]) for row in rows]


async def charges_by_reference(evidence: Evidence) -> Mapping[str, int]:
    """How often the bank charged for each merchant reference; a charge refunded in full does not count."""
    rows = await evidence.sql("bank", CHARGES_PER_SOURCE)
    return {_as(str, row["source"]).removeprefix(SOURCE_PREFIX): _as(int, row["charges"]) for row in rows}


def _keys(evidence: Evidence, outcome: Outcome) -> list[str]:
    return [operation.key for operation in evidence.history if operation.outcome is outcome]


async def charged_exactly_once(evidence: Evidence) -> Finding:
    """Each payment that the client saw captured was charged exactly once at the bank."""
    charges = await charges_by_reference(evidence)
    wrong = [key for key in _keys(evidence, Outcome.OK) if charges.get(key, 0) != 1]
    times = Counter(charges.get(key, 0) for key in wrong)
    note = ", ".join(f"{number} charged {n} times" for n, number in sorted(times.items()))
    return Finding.of(sorted(wrong), note)


async def no_charge_without_payment(evidence: Evidence) -> Finding:
    """Every charge at the bank has a payment here that says so."""
    charges = await charges_by_reference(evidence)
    rows = await evidence.sql("payments", PAID_PAYMENTS)
    paid = {_as(str, row["source"]).removeprefix(SOURCE_PREFIX): _as(int, row["payments"]) for row in rows}
    unaccounted = [key for key, number in charges.items() if number > paid.get(key, 0)]
    return Finding.of(sorted(unaccounted))


async def amounts_agree(evidence: Evidence) -> Finding:
    """Where bank and payments agree on how often, they agree on how much and in which currency."""
    bank = {
        (_as(str, row["source"]), _as(str, row["currency"])): (_as(int, row["charges"]), _as(int, row["amount"]))
        for row in await evidence.sql("bank", MONEY_AT_THE_BANK)
    }
    here = {
        (_as(str, row["source"]), _as(str, row["currency"])): (_as(int, row["payments"]), _as(int, row["amount"]))
        for row in await evidence.sql("payments", MONEY_HERE)
    }
    charges, payments = _number_by_source(bank), _number_by_source(here)
    disputed = {
        source
        for source, currency in bank.keys() | here.keys()
        if charges.get(source) == payments.get(source) and bank.get((source, currency)) != here.get((source, currency))
    }
    return Finding.of(sorted(source.removeprefix(SOURCE_PREFIX) for source in disputed))


def _number_by_source(money: Mapping[tuple[str, str], tuple[int, int]]) -> Mapping[str, int]:
    numbers: Counter[str] = Counter()
    for (source, _), (number, _) in money.items():
        numbers[source] += number
    return numbers


async def nothing_contradicted(evidence: Evidence) -> Finding:
    """No client was told `failed` while its card stays charged."""
    charges = await charges_by_reference(evidence)
    told_failed = set(_keys(evidence, Outcome.FAIL))
    return Finding.of(sorted(key for key in told_failed if charges.get(key, 0) > 0))


async def ledger_balances(evidence: Evidence) -> Finding:
    """The ledger sums to zero per transaction and currency, and agrees with what the payments say."""
    unbalanced = await evidence.sql("payments", UNBALANCED)
    disagreeing = await evidence.sql("payments", LEDGER_AGAINST_PAYMENTS)
    overall: dict[str, int] = defaultdict(int)
    for row in unbalanced:
        overall[_as(str, row["currency"])] += int(str(row["balance"]))
    off = {currency: balance for currency, balance in overall.items() if balance}
    note = f"out of balance by {off}" if off else ""
    offenders = _texts(unbalanced, "reference") + _texts(disagreeing, "reference")
    return Finding.of(list(dict.fromkeys(offenders)), note)


class _Body(msgspec.Struct):
    reference: str = ""


def _captured_events(records: Sequence[TopicRecord]) -> Mapping[str, Mapping[str, TopicRecord]]:
    """Captured events by payment, then by event id: a redelivered event counts once."""
    found: dict[str, dict[str, TopicRecord]] = defaultdict(dict)
    for record in records:
        if record.headers.get("ce_type") == CAPTURED_EVENT:
            subject = record.headers.get("ce_subject") or record.key or ""
            found[subject][record.headers.get("ce_id", f"{record.partition}/{record.offset}")] = record
    return found


def type_id(prefix: str, value: str) -> str:
    """A UUID as TypeID (`pay_` and 26 letters of Crockford's base 32); what is no UUID stays as it is."""
    try:
        number = UUID(value).int
    except ValueError:
        return value
    letters = "0123456789abcdefghjkmnpqrstvwxyz"
    return prefix + "_" + "".join(letters[number >> shift & 31] for shift in range(125, -1, -5))


async def one_event_per_capture(evidence: Evidence) -> Finding:
    """Each captured payment has exactly one `captured` event after dedup by event id, and no other has one."""
    rows = await evidence.sql("payments", CAPTURED_PAYMENTS)
    captured = {type_id("pay", _as(str, row["id"])): _as(str, row["reference"]) for row in rows}
    events = _captured_events(await evidence.topic(TOPIC))
    lost = [reference for payment, reference in captured.items() if payment not in events]
    doubled = [reference for payment, reference in captured.items() if len(events.get(payment, {})) > 1]
    unexpected = [_reference(records) for payment, records in events.items() if payment not in captured]
    counts = {"lost": len(lost), "more than one": len(doubled), "without a captured payment": len(unexpected)}
    note = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    return Finding.of(sorted({*lost, *doubled, *unexpected}), note)


def _reference(records: Mapping[str, TopicRecord]) -> str:
    record = next(iter(records.values()))
    try:
        return msgspec.json.decode(record.value, type=_Body).reference or str(record.key)
    except msgspec.DecodeError:
        return str(record.key)


async def no_unknown_left(evidence: Evidence) -> Finding:
    """Every operation whose outcome was unknown has been resolved."""
    return Finding.of(sorted(_texts(await evidence.sql("payments", OPEN_OPERATIONS), "reference")))


async def still_unknown(evidence: Evidence) -> str:
    """Probe: "" once the outcome of every operation is certain."""
    rows = await evidence.sql("payments", OPEN_OPERATIONS)
    return f"{len(rows)} payments are not certain yet" if rows else ""


async def still_unpublished(evidence: Evidence) -> str:
    """Probe: "" once the outbox is empty."""
    rows = await evidence.sql("payments", "SELECT count(*) AS events FROM outbox")
    waiting = _as(int, rows[0]["events"])
    return f"{waiting} events are not published yet" if waiting else ""
