"""Three records of the same money compared: payments, ledger, and the bank's settlement file. Pure; linear in its input.

The lines of a portion of the file are held, and the operations go by them (a hash join), so that memory is a portion's.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
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


def parse(text: Iterable[str]) -> Iterator[Line]:
    """Lines of a settlement file, which was opened with `newline=""`. Raises MalformedFile, UnicodeDecodeError."""
    reader = csv.reader(text)
    try:
        columns = tuple(next(reader, ()))
    except csv.Error:
        columns = ()
    if columns != COLUMNS:
        raise MalformedFile(f"The settlement file does not begin with the columns {','.join(COLUMNS)}.")
    try:
        yield from map(_line, reader)
    except UnicodeDecodeError:
        raise
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


class Comparison:
    """One portion of the file of `day` (UTC), which was made after `cut`, against operations.

    `against` wants, in any number of calls, every operation that began between the portion's moments and before `cut`, and
    every one that its lines name, each once; then `rest` is what no operation was found for. Late is what the bank settled on an
    earlier day than its file's. An operation that began on one day and ended on the next may be in either file, and is not missed in
    one of them.
    """

    def __init__(self, day: date, cut: datetime, lines: Iterable[Line]) -> None:
        self._day = day
        self._cut = cut
        self._named: dict[str, dict[str, Line]] = {}
        self._nameless: list[Line] = []
        self._met: set[str] = set()
        self.doubled: list[Finding] = []
        """Lines that stand in the file twice."""
        charges: set[tuple[str, str]] = set()
        for line in lines:
            if line.reference:
                of_it = self._named.setdefault(line.reference, {})
                if line.kind in of_it:
                    self.doubled.append(_finding(FindingKind.DUPLICATE, Side.BANK, line, None))
                else:
                    of_it[line.kind] = line
            elif (line.charge_id, line.kind) in charges:
                self.doubled.append(_finding(FindingKind.DUPLICATE, Side.BANK, line, None))
            else:
                charges.add((line.charge_id, line.kind))
                self._nameless.append(line)

    @property
    def unmet(self) -> list[str]:
        """References of lines that no operation was found for yet."""
        return [reference for reference in self._named if reference not in self._met]

    def against(self, operations: Iterable[Ours]) -> Iterator[Finding]:
        """What disagrees with these."""
        for own in operations:
            lines = self._named.get(own.reference, {})
            if lines:
                self._met.add(own.reference)
            for line in lines.values():
                yield from _compare(self._day, line, own)
            if own.kind is None or not own.decided:
                continue
            yield from _ledger(own, self._day)
            if own.kind not in lines and _belongs(own, self._day, self._cut):
                yield Finding(
                    FindingKind.MISSING_THERE, Side.BANK, own.reference, own.kind, own.amount, None, own.currency
                )

    def rest(self) -> Iterator[Finding]:
        """Lines of which we know nothing."""
        for reference in self.unmet:
            for line in self._named[reference].values():
                yield _finding(FindingKind.MISSING_HERE, Side.PAYMENTS, line, None)
        for line in self._nameless:
            yield _finding(FindingKind.MISSING_HERE, Side.PAYMENTS, line, None)


def _compare(day: date, line: Line, own: Ours) -> Iterator[Finding]:
    if own.decided is None:
        return  # not known yet; the resolver will know, and the next version of the file is compared again
    if not own.decided or own.kind != line.kind:
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
