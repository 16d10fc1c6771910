from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from services.simulators.bank.behaviours import SettlementMistakes
from services.simulators.bank.settlement import HEADER, Line, as_csv, settle

DAY = date(2026, 3, 2)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def line(number: int, at: datetime = NOON) -> Line:
    return Line(number, f"ch_{number}", f"r-{number}", "capture", 1000, "EUR", f"tok_{number}", at)


LINES = [line(number) for number in range(1000)]


def test_without_mistakes_the_file_is_the_record() -> None:
    settlement = settle(DAY, LINES, SettlementMistakes())
    assert settlement.lines == tuple(LINES)
    assert settlement.planted == ()


def test_each_mistake_is_planted_and_named() -> None:
    mistakes = SettlementMistakes(missing=0.05, extra=0.05, wrong_amount=0.05, duplicate=0.05, late=0.05, seed=1)
    settlement = settle(DAY, LINES, mistakes)
    planted = Counter(one.mistake for one in settlement.planted)
    by_charge = Counter(one.charge_id for one in settlement.lines)
    amounts = [one for one in settlement.lines if one.amount != 1000]
    absent = {one.charge_id for one in LINES} - set(by_charge)
    assert all(20 <= planted[name] <= 90 for name in ("missing", "extra", "wrong_amount", "duplicate", "late"))
    assert len(absent) == planted["missing"] + planted["late"]
    assert sum(count == 2 for count in by_charge.values()) == planted["duplicate"]
    assert sum(charge.startswith("ch_extra_") for charge in by_charge) == planted["extra"]
    assert len(amounts) == planted["wrong_amount"]


def test_the_same_seed_plants_the_same_mistakes_and_another_one_others() -> None:
    mistakes = SettlementMistakes(missing=0.2, seed=1)
    assert settle(DAY, LINES, mistakes) == settle(DAY, LINES, mistakes)
    assert settle(DAY, LINES, mistakes) != settle(DAY, LINES, SettlementMistakes(missing=0.2, seed=2))


def test_late_lines_come_in_the_next_days_file_and_only_there() -> None:
    late = SettlementMistakes(late=0.3, seed=1)
    today, tomorrow = settle(DAY, LINES, late), settle(DAY + timedelta(days=1), LINES, late)
    assert {one.charge_id for one in today.lines} | {one.charge_id for one in tomorrow.lines} == {
        one.charge_id for one in LINES
    }
    assert len(today.lines) + len(tomorrow.lines) == len(LINES)
    assert len(tomorrow.lines) > 200
    assert tomorrow.planted == ()


def test_a_line_belongs_to_its_utc_day() -> None:
    at_night = replace(LINES[0], settled_at=datetime(2026, 3, 2, 23, 59, 59, tzinfo=UTC))
    assert settle(DAY, [at_night], SettlementMistakes()).lines == (at_night,)
    assert settle(DAY + timedelta(days=1), [at_night], SettlementMistakes()).lines == ()


def test_the_file_is_csv_with_a_header_and_empty_references() -> None:
    text = HEADER + as_csv([replace(LINES[0], reference=None)])
    assert text == (
        "charge_id,reference,kind,amount,currency,source,settled_at\r\n"
        "ch_0,,capture,1000,EUR,tok_0,2026-03-02T12:00:00+00:00\r\n"
    )
