"""The settlement file: each capture and refund of a day, with mistakes planted where the behaviour asks for them. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from services.kit.switches import draw
from services.simulators.bank.behaviours import SettlementMistakes

COLUMNS = ("charge_id", "reference", "kind", "amount", "currency", "source", "settled_at")
HEADER = ",".join(COLUMNS) + "\r\n"


@dataclass(frozen=True, slots=True)
class Line:
    """One effect. `number` is its place in the bank's own record."""

    number: int
    charge_id: str
    reference: str | None
    kind: str
    amount: int
    currency: str
    source: str
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Planted:
    """A mistake that stands in the file, by the charge it concerns."""

    mistake: str
    charge_id: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """A day's file and what is wrong with it."""

    lines: tuple[Line, ...]
    planted: tuple[Planted, ...]


def settle(day: date, effects: Iterable[Line], mistakes: SettlementMistakes) -> Settlement:
    """The file of `day`, from the effects of that day and of the day before (whose late lines come now).

    The same seed and effects give the same mistakes, and a line has at most one.
    """
    lines: list[Line] = []
    planted: list[Planted] = []
    for line in effects:
        mistake = mistake_of(line, mistakes)
        if (line.settled_at.astimezone(UTC).date() == day) == (mistake == "late"):
            if mistake == "late":
                planted.append(Planted("late", line.charge_id))
            continue
        lines.extend(_written(line, mistake))
        if mistake not in (None, "late"):
            planted.append(Planted(str(mistake), line.charge_id))
    return Settlement(tuple(lines), tuple(planted))


def mistake_of(line: Line, mistakes: SettlementMistakes) -> str | None:
    """Which mistake the line gets, if any."""
    chance = draw(mistakes.seed, "settlement_mistakes", f"{line.charge_id}/{line.kind}/{line.number}")
    for name in ("missing", "extra", "wrong_amount", "duplicate", "late"):
        share: float = getattr(mistakes, name)
        if chance < share:
            return name
        chance -= share
    return None


def _written(line: Line, mistake: str | None) -> Iterator[Line]:
    if mistake == "missing":
        return
    if mistake == "wrong_amount":
        yield replace(line, amount=line.amount + 1 + line.number % 97)
        return
    yield line
    if mistake == "duplicate":
        yield line
    if mistake == "extra":
        reference = None if line.reference is None else line.reference + ".extra"
        yield replace(line, charge_id="ch_extra_" + line.charge_id.removeprefix("ch_"), reference=reference)


def as_csv(lines: Iterable[Line]) -> str:
    """RFC 4180 without the header; times are ISO 8601 UTC, a missing reference is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows(
        (
            line.charge_id,
            line.reference or "",
            line.kind,
            line.amount,
            line.currency,
            line.source,
            line.settled_at.astimezone(UTC).isoformat(),
        )
        for line in lines
    )
    return text.getvalue()
