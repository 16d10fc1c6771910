"""Each invariant is seen red on a planted bug, green without it, and silent about nothing."""

from __future__ import annotations

from uuid import UUID

import pytest

from labs.engine.model import EvidenceError, Invariant, NotApplicableError, Outcome, Row, Status
from labs.invariants import payments as p
from services.kit import ids
from tests.unit.invariants.evidence import ListedEvidence, event, operation

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN


def charges(**by_key: int) -> list[Row]:
    return [{"source": f"tok_{key}", "charges": number} for key, number in by_key.items()]


def rows(*found: dict[str, object]) -> list[Row]:
    return list(found)  # type: ignore[arg-type]  # as above


async def test_acknowledged_payments_charged_once_hold() -> None:
    evidence = ListedEvidence({p.CHARGES_PER_SOURCE: charges(a=1, b=1)}, (operation("a", OK), operation("b", OK)))
    assert (await p.charged_exactly_once(evidence)).status is Status.HELD


async def test_double_and_missing_charges_are_named() -> None:
    history = tuple(operation(key, OK) for key in "abcd")
    evidence = ListedEvidence({p.CHARGES_PER_SOURCE: charges(a=1, b=2, c=3)}, history)
    finding = await p.charged_exactly_once(evidence)
    assert (finding.status, finding.count, finding.offenders) == (Status.BROKEN, 3, ("b", "c", "d"))
    assert finding.note == "1 charged 0 times, 1 charged 2 times, 1 charged 3 times"


async def test_what_was_not_acknowledged_may_be_charged_or_not() -> None:
    history = (operation("a", UNKNOWN), operation("b", UNKNOWN), operation("c", FAIL))
    evidence = ListedEvidence({p.CHARGES_PER_SOURCE: charges(a=1)}, history)
    assert (await p.charged_exactly_once(evidence)).status is Status.HELD


async def test_a_charge_needs_a_payment_that_says_so() -> None:
    paid = rows({"source": "tok_a", "payments": 1}, {"source": "tok_b", "payments": 1})
    right = ListedEvidence({p.CHARGES_PER_SOURCE: charges(a=1, b=1), p.PAID_PAYMENTS: paid})
    assert (await p.no_charge_without_payment(right)).status is Status.HELD
    wrong = ListedEvidence({p.CHARGES_PER_SOURCE: charges(a=1, b=2, c=1), p.PAID_PAYMENTS: paid})
    assert (await p.no_charge_without_payment(wrong)).offenders == ("b", "c")


async def test_bank_and_payments_must_agree_on_the_money() -> None:
    bank = rows(
        {"source": "tok_a", "currency": "EUR", "charges": 1, "amount": 100},
        {"source": "tok_b", "currency": "EUR", "charges": 1, "amount": 101},
        {"source": "tok_c", "currency": "USD", "charges": 1, "amount": 100},
        {"source": "tok_twice", "currency": "EUR", "charges": 2, "amount": 200},
    )
    here = rows(
        *({"source": f"tok_{key}", "currency": "EUR", "payments": 1, "amount": 100} for key in ("a", "b", "c", "twice"))
    )
    wrong = ListedEvidence({p.MONEY_AT_THE_BANK: bank, p.MONEY_HERE: here})
    assert (await p.amounts_agree(wrong)).offenders == ("b", "c")
    right = ListedEvidence({p.MONEY_AT_THE_BANK: bank[:1], p.MONEY_HERE: here[:1]})
    assert (await p.amounts_agree(right)).status is Status.HELD


async def test_a_client_told_failed_must_not_stay_charged() -> None:
    history = (operation("a", FAIL), operation("b", OK), operation("c", UNKNOWN))
    right = ListedEvidence({p.CHARGES_PER_SOURCE: charges(b=1, c=1)}, history)
    assert (await p.nothing_contradicted(right)).status is Status.HELD
    wrong = ListedEvidence({p.CHARGES_PER_SOURCE: charges(a=1, b=1)}, history)
    assert (await p.nothing_contradicted(wrong)).offenders == ("a",)


async def test_the_ledger_must_balance_and_agree_with_the_payments() -> None:
    right = ListedEvidence({p.UNBALANCED: [], p.LEDGER_AGAINST_PAYMENTS: []})
    assert (await p.ledger_balances(right)).status is Status.HELD
    unbalanced = rows({"reference": "a", "currency": "EUR", "balance": 5})
    wrong = ListedEvidence({p.UNBALANCED: unbalanced, p.LEDGER_AGAINST_PAYMENTS: rows({"reference": "b"})})
    finding = await p.ledger_balances(wrong)
    assert (finding.offenders, finding.note) == (("a", "b"), "out of balance by {'EUR': 5}")


PAYMENT = UUID("01932c07-5a4e-7c3b-8d3e-0242ac120002")


def captured(*pairs: tuple[object, str]) -> dict[str, list[Row]]:
    found: list[dict[str, object]] = [{"id": str(identity), "reference": reference} for identity, reference in pairs]
    return {p.CAPTURED_PAYMENTS: rows(*found)}


async def test_one_captured_event_for_each_capture_holds_and_redelivery_is_no_second_one() -> None:
    events = (
        event(ids.encode("pay", PAYMENT), "e1"),
        event(ids.encode("pay", PAYMENT), "e1"),
        event(ids.encode("pay", PAYMENT), "e0", kind="authorised"),
        event("pay_text", "e2"),
    )
    evidence = ListedEvidence(captured((PAYMENT, "a"), ("pay_text", "b")), records=events)
    assert (await p.one_event_per_capture(evidence)).status is Status.HELD


async def test_lost_doubled_and_invented_events_are_named() -> None:
    events = (event("pay_b", "e1"), event("pay_b", "e2"), event("pay_x", "e3", reference="x"))
    evidence = ListedEvidence(captured(("pay_a", "a"), ("pay_b", "b")), records=events)
    finding = await p.one_event_per_capture(evidence)
    assert finding.offenders == ("a", "b", "x")
    assert finding.note == "1 lost, 1 more than one, 1 without a captured payment"


async def test_an_open_operation_is_an_unknown_left() -> None:
    assert (await p.no_unknown_left(ListedEvidence({p.OPEN_OPERATIONS: []}))).status is Status.HELD
    finding = await p.no_unknown_left(ListedEvidence({p.OPEN_OPERATIONS: rows({"reference": "a"})}))
    assert (finding.status, finding.offenders) == (Status.BROKEN, ("a",))


async def test_the_probes_say_what_is_still_open() -> None:
    outbox = "SELECT count(*) AS events FROM outbox"
    settled = ListedEvidence({p.OPEN_OPERATIONS: [], outbox: rows({"events": 0})})
    assert (await p.still_unknown(settled), await p.still_unpublished(settled)) == ("", "")
    busy = ListedEvidence({p.OPEN_OPERATIONS: rows({"reference": "a"}), outbox: rows({"events": 3})})
    assert await p.still_unknown(busy) == "1 payments are not certain yet"
    assert await p.still_unpublished(busy) == "3 events are not published yet"


INVARIANTS: tuple[Invariant, ...] = (
    p.charged_exactly_once, p.no_charge_without_payment, p.nothing_contradicted, p.ledger_balances,
    p.one_event_per_capture, p.no_unknown_left,
)  # fmt: skip


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda i: i.__name__)
async def test_without_the_tables_an_invariant_does_not_apply(invariant: Invariant) -> None:
    with pytest.raises(NotApplicableError):
        await invariant(ListedEvidence())


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda i: i.__name__)
async def test_a_store_that_cannot_be_read_surfaces(invariant: Invariant) -> None:
    with pytest.raises(EvidenceError):
        await invariant(ListedEvidence(broken=True))


async def test_a_column_of_another_type_surfaces() -> None:
    evidence = ListedEvidence({p.CHARGES_PER_SOURCE: rows({"source": None, "charges": 1})}, (operation("a", OK),))
    with pytest.raises(TypeError):
        await p.charged_exactly_once(evidence)


def test_type_ids_are_those_of_the_services() -> None:
    assert p.type_id("pay", str(PAYMENT)) == ids.encode("pay", PAYMENT)
    assert p.type_id("pay", "pay_already") == "pay_already"
