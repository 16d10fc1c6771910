"""Three records of the same money compared: payments, ledger, and the bank's settlement file. Pure; linear in its input."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

COLUMNS = ("charge_id", "reference", "kind", "amount", "currency", "source", "settled_at")
LARGEST = 2**63
"""Amounts below it fit where findings are kept."""


class FindingKind(StrEnum):
    """`missing_here`: the bank has it, we do not. `missing_there`: we have it, the bank does not."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    AMOUNT = "amount"
    DUPLICATE = "duplicate"
    LATE = "late"


class Side(StrEnum):
    """Which record disagrees with the others."""

    PAYMENTS = "payments"
    LEDGER = "ledger"
    BANK = "bank"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the settlement file: a capture or a refund. `amount` in minor units."""

    charge_id: str
    reference: str
    kind: str
    amount: int
    currency: str
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Ours:
    """What we know of one bank reference. `kind` is None if it moves no money (a reservation, a void).

    `decided`: True once the operation succeeded, False if it failed, None while its outcome is unknown. `ledger_amount` is
    what the ledger booked on the account `bank`, positive for a refund as well; None if it booked nothing.
    """

    reference: str
    kind: str | None
    amount: int
    currency: str
    began_at: datetime
    ended_at: datetime | None
    decided: bool | None
    ledger_amount: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement. `subject` is the bank reference, or the charge's id where the file gives no reference."""

    kind: FindingKind
    side: Side
    subject: str
    operation_kind: str
    expected: int | None
    actual: int | None
    currency: str


class MalformedFile(Exception):
    """The settlement file cannot be read; the message is one sentence with the line's number."""


def parse(text: str) -> Iterator[Line]:
    """Lines of a settlement file. Raises MalformedFile."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        columns = tuple(next(reader, ()))
    except csv.Error:
        columns = ()
    if columns != COLUMNS:
        raise MalformedFile(f"The settlement file does not begin with the columns {','.join(COLUMNS)}.")
    try:
        yield from map(_line, reader)
    except (ValueError, csv.Error):
        raise MalformedFile(f"Line {reader.line_num} of the settlement file cannot be read.") from None


def _line(row: list[str]) -> Line:
    charge, reference, kind, amount, currency, _, settled = row
    line = Line(charge, reference, kind, int(amount), currency, datetime.fromisoformat(settled))
    if kind not in ("capture", "refund") or line.settled_at.tzinfo is None or not 0 < line.amount < LARGEST:
        raise ValueError
    if not (charge + reference + currency).isprintable():
        raise ValueError
    return line


def reconcile(day: date, lines: Iterable[Line], ours: Mapping[str, Ours], cut: datetime) -> Iterator[Finding]:
    """Findings for the file of `day` (UTC), which was made after `cut`.

    `ours` holds at least every operation that falls into the day before `cut`, and every reference that the file names.
    Late is what the bank settled on an earlier day than its file's. An operation that began on one day and ended on the next
    may be in either file, and is not missed in one of them.
    """
    seen: set[tuple[str, str]] = set()
    for line in lines:
        subject = line.reference or line.charge_id
        if (subject, line.kind) in seen:
            yield _finding(FindingKind.DUPLICATE, Side.BANK, line, None)
            continue
        seen.add((subject, line.kind))
        yield from _compare(day, line, ours.get(line.reference) if line.reference else None)
    for own in ours.values():
        if own.kind is None or not own.decided:
            continue
        yield from _ledger(own, day)
        if (own.reference, own.kind) not in seen and _belongs(own, day, cut):
            yield Finding(FindingKind.MISSING_THERE, Side.BANK, own.reference, own.kind, own.amount, None, own.currency)


def _compare(day: date, line: Line, own: Ours | None) -> Iterator[Finding]:
    if own is not None and own.decided is None:
        return  # not known yet; the resolver will know, and the next version of the file is compared again
    if own is None or not own.decided or own.kind != line.kind:
        yield _finding(FindingKind.MISSING_HERE, Side.PAYMENTS, line, None)
        return
    if (line.amount, line.currency) != (own.amount, own.currency):
        yield _finding(FindingKind.AMOUNT, Side.BANK, line, own.amount)
    if line.settled_at.astimezone(UTC).date() < day:
        yield _finding(FindingKind.LATE, Side.BANK, line, own.amount)


def _ledger(own: Ours, day: date) -> Iterator[Finding]:
    if own.ended_at is None or own.ended_at.astimezone(UTC).date() != day or own.ledger_amount == own.amount:
        return
    kind = FindingKind.MISSING_HERE if own.ledger_amount is None else FindingKind.AMOUNT
    yield Finding(kind, Side.LEDGER, own.reference, str(own.kind), own.amount, own.ledger_amount, own.currency)


def _belongs(own: Ours, day: date, cut: datetime) -> bool:
    """Whether the bank must have executed it on this day, before the file was made."""
    return (
        own.ended_at is not None
        and own.ended_at < cut
        and own.began_at.astimezone(UTC).date() == day == own.ended_at.astimezone(UTC).date()
    )


def _finding(kind: FindingKind, side: Side, line: Line, expected: int | None) -> Finding:
    return Finding(kind, side, line.reference or line.charge_id, line.kind, expected, line.amount, line.currency)
