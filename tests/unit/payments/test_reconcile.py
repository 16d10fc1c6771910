from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from services.payments.reconcile import Comparison, Finding, FindingKind, Line, MalformedFile, Ours, Side, parse

DAY = date(2026, 3, 5)
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
CUT = NOON + timedelta(hours=20)
HEAD = "charge_id,reference,kind,amount,currency,source,settled_at\r\n"


def own(reference: str, amount: int = 100, kind: str | None = "capture", at: datetime = NOON, *, decided: bool | None = True, ledger: int | None = -1) -> Ours:  # fmt: skip
    booked = amount if ledger == -1 else ledger
    return Ours(reference, kind, amount, "EUR", at, at + timedelta(seconds=1), decided, booked)


def line(reference: str, amount: int = 100, kind: str = "capture", at: datetime = NOON, currency: str = "EUR") -> Line:
    return Line(f"ch_{reference}", reference, kind, amount, currency, at)


def compared(lines: Iterable[Line], *ours: Sequence[Ours], cut: datetime = CUT) -> list[Finding]:
    """The operations come in so many calls."""
    comparison = Comparison(DAY, cut, lines)
    found = [finding for some in ours for finding in comparison.against(some)]
    return [*comparison.doubled, *found, *comparison.rest()]


def kinds(lines: list[Line], ours: list[Ours], cut: datetime = CUT) -> list[tuple[str, str, str]]:
    return [(each.kind.value, each.side.value, each.subject) for each in compared(lines, ours, cut=cut)]


def test_three_records_that_agree_give_nothing() -> None:
    assert (
        kinds(
            [line("a"), line("b", kind="refund")], [own("a"), own("b", kind="refund"), own("c", kind=None, ledger=None)]
        )
        == []
    )


def test_each_mistake_has_its_own_name() -> None:
    assert kinds([line("a")], []) == [("missing_here", "payments", "a")]
    assert kinds([], [own("a")]) == [("missing_there", "bank", "a")]
    assert kinds([line("a", 101)], [own("a")]) == [("amount", "bank", "a")]
    assert kinds([line("a", currency="USD")], [own("a")]) == [("amount", "bank", "a")]
    assert kinds([line("a"), line("a")], [own("a")]) == [("duplicate", "bank", "a")]
    yesterday = NOON - timedelta(days=1)
    assert kinds([line("a", at=yesterday)], [own("a", at=yesterday)]) == [("late", "bank", "a")]


def test_the_ledger_is_the_third_record() -> None:
    assert kinds([line("a")], [own("a", ledger=None)]) == [("missing_here", "ledger", "a")]
    assert kinds([line("a")], [own("a", ledger=99)]) == [("amount", "ledger", "a")]


def test_a_charge_without_our_reference_is_missing_here_under_its_own_id() -> None:
    assert kinds([Line("ch_1", "", "capture", 5, "EUR", NOON)], []) == [("missing_here", "payments", "ch_1")]


def test_a_charge_without_our_reference_that_stands_there_twice_is_a_duplicate() -> None:
    nameless = Line("ch_1", "", "capture", 5, "EUR", NOON)
    assert kinds([nameless, nameless], []) == [("duplicate", "bank", "ch_1"), ("missing_here", "payments", "ch_1")]


def test_an_operation_under_the_other_kind_of_movement_is_missing_on_both_sides() -> None:
    assert kinds([line("a", kind="refund")], [own("a")]) == [
        ("missing_here", "payments", "a"),
        ("missing_there", "bank", "a"),
    ]


def test_what_failed_here_and_was_charged_there_is_missing_here() -> None:
    assert kinds([line("a")], [own("a", decided=False, ledger=None)]) == [("missing_here", "payments", "a")]


def test_what_is_not_known_yet_is_no_finding() -> None:
    assert kinds([line("a")], [own("a", decided=None, ledger=None)]) == []
    assert kinds([], [own("a", decided=None, ledger=None)]) == []


def test_what_was_done_after_the_file_was_made_is_not_missed_in_it() -> None:
    assert kinds([], [own("a")], cut=NOON) == []


def test_an_operation_over_midnight_may_be_in_either_file() -> None:
    midnight = datetime(2026, 3, 6, tzinfo=UTC)
    over = Ours("a", "capture", 100, "EUR", midnight - timedelta(seconds=1), midnight + timedelta(seconds=1), True, 100)
    assert kinds([], [over]) == []
    assert kinds([line("a", at=midnight - timedelta(seconds=1))], [over]) == []


def test_an_operation_of_another_day_is_not_missed_in_this_file() -> None:
    assert kinds([], [own("a", at=NOON - timedelta(days=1))]) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_planted_mistake_is_found_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    lines: list[Line] = []
    ours: dict[str, Ours] = {}
    planted: set[tuple[str, str]] = set()
    for number in range(500):
        reference, amount = f"op_{number}", chance.randint(1, 10_000)
        kind = chance.choice(["capture", "refund"])
        mistake = (
            chance.choice(["missing_there", "missing_here", "amount", "duplicate", "late"])
            if chance.random() < 0.1
            else ""
        )
        at = NOON - timedelta(days=1) if mistake == "late" else NOON
        if mistake != "missing_here":
            ours[reference] = own(reference, amount, kind, at)
        written = line(reference, amount + (1 if mistake == "amount" else 0), kind, at)
        lines += [written] * {"missing_there": 0, "duplicate": 2}.get(mistake, 1)
        if mistake:
            planted.add((mistake, reference))
    chance.shuffle(lines)
    half = len(ours) // 2
    operations = list(ours.values())
    found = [(each.kind.value, each.subject) for each in compared(lines, operations[:half], operations[half:])]
    assert len(found) == len(set(found))
    assert set(found) == planted


def test_a_file_is_read_with_its_header() -> None:
    text = (
        HEAD
        + "ch_1,op_1,capture,100,EUR,tok_1,2026-03-05T12:00:00+00:00\r\nch_2,,refund,5,JPY,tok_2,2026-03-05T12:00:00+00:00\r\n"
    )
    assert list(parse(io.StringIO(text, newline=""))) == [
        Line("ch_1", "op_1", "capture", 100, "EUR", NOON), Line("ch_2", "", "refund", 5, "JPY", NOON),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns"),
        ("a,b\r\n", "columns"),
        (HEAD + "ch_1,op_1,capture,1.5,EUR,tok,2026-03-05T12:00:00+00:00\r\n", "Line 2"),
        (HEAD + "ch_1,op_1,fee,1,EUR,tok,2026-03-05T12:00:00+00:00\r\n", "Line 2"),
        (HEAD + "ch_1,op_1,capture,1,EUR,tok,2026-03-05T12:00:00\r\n", "Line 2"),
        (HEAD + "ch_1,op_1\r\n", "Line 2"),
        (HEAD + "c" * 200_000 + ",op_1,capture,1,EUR,tok,2026-03-05T12:00:00+00:00\r\n", "Line 2"),
        ("c" * 200_000, "columns"),
        (HEAD + "ch_1,op\x00,capture,1,EUR,tok,2026-03-05T12:00:00+00:00\r\n", "Line 2"),
        (HEAD + "ch_1,op_1,capture,-1,EUR,tok,2026-03-05T12:00:00+00:00\r\n", "Line 2"),
        (HEAD + "ch_1,op_1,capture,9223372036854775808,EUR,tok,2026-03-05T12:00:00+00:00\r\n", "Line 2"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text: str, said: str) -> None:
    with pytest.raises(MalformedFile, match=said):
        list(parse(io.StringIO(text, newline="")))


def test_a_finding_carries_both_amounts() -> None:
    (found,) = compared([line("a", 101)], [own("a")])
    assert found == Finding(FindingKind.AMOUNT, Side.BANK, "a", "capture", 100, 101, "EUR")
