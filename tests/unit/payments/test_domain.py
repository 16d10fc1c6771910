from __future__ import annotations

import importlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payments.domain import (
    ALLOWED_IN,
    AUTHORISATION_LASTS,
    EXPONENTS,
    TRANSITIONS,
    AmountTooLarge,
    Done,
    Final,
    IllegalState,
    Money,
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentStatus,
    Refused,
    Said,
    UnknownCurrency,
    agrees,
    begin,
    looks_like_card,
    settle,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DONE = Done("b")


def payment(*, automatic: bool = True, amount: int = 1000) -> Payment:
    return Payment(
        UUID(int=1), "mer", "order", "tok_x", amount, "EUR", automatic, None, PaymentStatus.PROCESSING, NOW, NOW
    )  # fmt: skip


def operation(kind: OperationKind, amount: int, *, expiring: bool = False) -> Operation:
    return Operation(UUID(int=2), UUID(int=1), kind, amount, "op_x", NOW, expiring=expiring)


def after(start: Payment, kind: OperationKind, amount: int | None = None, final: Final = DONE, **more: bool) -> Payment:
    return settle(start, operation(kind, begin(start, kind, amount, NOW), **more), final, NOW).payment


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1000, "EUR", "10.00 EUR"),
        (1000, "JPY", "1000 JPY"),
        (1234, "KWD", "1.234 KWD"),
        (5, "USD", "0.05 USD"),
        (1, "CLF", "0.0001 CLF"),
    ],
)
def test_money_is_written_with_the_exponent_of_its_currency(amount: int, currency: str, text: str) -> None:
    assert str(Money(amount, currency)) == text


@pytest.mark.parametrize("code", ["XXX", "eur", "EU", "XTS", "XAU", "DEM"])
def test_a_code_that_is_no_currency_in_use_is_refused(code: str) -> None:
    with pytest.raises(UnknownCurrency):
        Money(1, code)


def test_the_table_of_currencies_has_each_code_once() -> None:
    assert len(EXPONENTS) >= 150
    assert all(len(code) == 3 and code.isupper() for code in EXPONENTS)


def test_automatic_capture_takes_the_money_in_one_step() -> None:
    start = payment()
    settled = settle(start, operation(OperationKind.AUTHORISE, 1000), Done("ch_1"), NOW)
    assert settled.payment.status is PaymentStatus.CAPTURED
    assert settled.payment.captured_amount == 1000
    assert settled.payment.charge_id == "ch_1"
    assert settled.event_type == "payments.payment.captured"
    assert sum(entry.amount for entry in settled.entries) == 0
    assert {entry.account for entry in settled.entries} == {"bank", "merchant:mer"}


def test_a_reservation_moves_no_money_and_ends_after_seven_days() -> None:
    settled = settle(payment(automatic=False), operation(OperationKind.AUTHORISE, 1000), Done("ch_1"), NOW)
    assert settled.payment.status is PaymentStatus.AUTHORISED
    assert settled.payment.expires_at == NOW + AUTHORISATION_LASTS == NOW + timedelta(days=7)
    assert settled.entries == ()


def test_a_declined_payment_has_failed_with_the_banks_reason() -> None:
    settled = settle(payment(), operation(OperationKind.AUTHORISE, 1000), Refused("insufficient_funds"), NOW)
    assert settled.payment.status is PaymentStatus.FAILED
    assert settled.payment.failure_code == "insufficient_funds"
    assert settled.operation_status is OperationStatus.FAILED
    assert settled.event_type == "payments.payment.failed"


@pytest.mark.parametrize("kind", [OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND])
def test_a_declined_later_operation_leaves_the_payment_as_it_was(kind: OperationKind) -> None:
    start = after(payment(automatic=kind is OperationKind.REFUND), OperationKind.AUTHORISE)
    settled = settle(start, operation(kind, 1000), Refused("no"), NOW)
    assert settled.payment == start
    assert settled.event_type is None
    assert settled.entries == ()


def test_a_partial_capture_is_the_only_capture() -> None:
    captured = after(after(payment(automatic=False), OperationKind.AUTHORISE), OperationKind.CAPTURE, 300)
    assert captured.captured_amount == 300
    with pytest.raises(IllegalState):
        begin(captured, OperationKind.CAPTURE, 100, NOW)
    with pytest.raises(AmountTooLarge) as refused:
        begin(captured, OperationKind.REFUND, 301, NOW)
    assert refused.value.limit == 300


def test_a_void_that_we_began_ourselves_is_called_expired() -> None:
    authorised = after(payment(automatic=False), OperationKind.AUTHORISE)
    assert after(authorised, OperationKind.VOID).status is PaymentStatus.VOIDED
    assert after(authorised, OperationKind.VOID, expiring=True).status is PaymentStatus.EXPIRED


def test_an_expiry_that_the_bank_declines_is_tried_again_later_and_not_at_once() -> None:
    authorised = after(payment(automatic=False), OperationKind.AUTHORISE)
    still = after(authorised, OperationKind.VOID, final=Refused("no"), expiring=True)
    assert still.status is PaymentStatus.AUTHORISED
    assert still.expires_at is not None
    assert still.expires_at > NOW


def test_the_database_keeps_the_same_table_of_transitions() -> None:
    migration = importlib.import_module("services.payments.migrations.versions.0001_payments")
    (insert,) = [text for text in migration.PAYMENTS if "INSERT INTO payment_transitions" in text]
    assert insert.count("('") == len(TRANSITIONS)
    assert all(f"('{before}', '{then}')" in insert for before, then in TRANSITIONS)


steps = st.lists(
    st.tuples(st.sampled_from(OperationKind), st.none() | st.integers(1, 1500), st.booleans(), st.booleans()),
    max_size=12,
)


@given(st.booleans(), steps)
def test_no_sequence_of_operations_breaks_the_rules_of_money(
    automatic: bool, wanted: list[tuple[OperationKind, int | None, bool, bool]]
) -> None:
    current, booked, events = payment(automatic=automatic), 0, 0
    for kind, amount, accepted, expiring in wanted:
        before = current
        try:
            asked = begin(current, kind, amount, NOW)
        except (IllegalState, AmountTooLarge):
            continue
        doing = replace(operation(kind, asked), expiring=expiring and kind is OperationKind.VOID)
        settled = settle(current, doing, Done("b") if accepted else Refused("no"), NOW)
        current = settled.payment
        booked += sum(entry.amount for entry in settled.entries if entry.account == "bank")
        events += settled.event_type is not None
        assert before.status is current.status or (before.status, current.status) in TRANSITIONS
        assert sum(entry.amount for entry in settled.entries) == 0
        assert all(entry.amount != 0 for entry in settled.entries)
        assert 0 <= current.refunded_amount <= current.captured_amount <= current.amount
        assert booked == current.captured_amount - current.refunded_amount
        assert current.sequence == events


@given(st.sampled_from(OperationKind), st.sampled_from(PaymentStatus))
def test_an_operation_begins_and_ends_only_where_it_is_allowed(kind: OperationKind, status: PaymentStatus) -> None:
    start = replace(payment(), status=status, captured_amount=500)
    if status in ALLOWED_IN[kind]:
        begin(start, kind, 1, NOW)
        return
    with pytest.raises(IllegalState):
        begin(start, kind, 1, NOW)
    with pytest.raises(IllegalState):
        settle(start, operation(kind, 1), Done("b"), NOW)


def luhn_digit(digits: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(digits)))
    return str(-total % 10)


@given(st.text("0123456789", min_size=12, max_size=18), st.data())
def test_every_card_number_is_noticed_however_it_is_spaced(digits: str, data: st.DataObject) -> None:
    number = digits + luhn_digit(digits)
    separators = data.draw(st.lists(st.sampled_from(["", " ", "-"]), min_size=len(number), max_size=len(number)))
    spaced = "".join(digit + separator for digit, separator in zip(number, separators, strict=True)).rstrip(" -")
    assert looks_like_card(spaced)
    assert looks_like_card("tok_" + spaced)
    assert looks_like_card(f"  {spaced} ")
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert not looks_like_card(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4242424242424242",
        "378282246310005",
        "tok_4111.1111.1111.1111",
        "tok_4111_1111_1111_1111",
        "tok_tok_4111111111111111",
        "4111111111111111|12|25|123",
        "tok_visa-4111111111111111",
    ],
)
def test_known_card_numbers_are_noticed(source: str) -> None:
    assert looks_like_card(source)


@pytest.mark.parametrize("source", ["tok_visa", "", "tok_", "411111111111", "tok_s42-000001", "4111x1111x1111x1111"])
def test_tokens_are_no_card_numbers(source: str) -> None:
    assert not looks_like_card(source)


@pytest.mark.parametrize(
    "said",
    [
        Said("op_y", 1000, "EUR"),
        Said("op_x", 1001, "EUR"),
        Said("op_x", 1000, "USD"),
        Said(amount=0),
        Said("", 1000, "EUR"),
    ],
)
def test_a_bank_that_did_something_else_than_it_was_asked_does_not_agree(said: Said) -> None:
    assert not agrees(Done("ch_1", said), payment(), operation(OperationKind.AUTHORISE, 1000))


@pytest.mark.parametrize("said", [Said("op_x", 1000, "EUR"), Said("op_x"), Said()])
def test_a_bank_that_says_what_it_was_asked_or_does_not_tell_agrees(said: Said) -> None:
    assert agrees(Done("ch_1", said), payment(), operation(OperationKind.AUTHORISE, 1000))


def test_a_void_has_no_amount_of_its_own_to_compare() -> None:
    assert agrees(Done("op_1", Said("op_x", 0, "EUR")), payment(), operation(OperationKind.VOID, 1000))
    assert not agrees(Done("op_1", Said("op_y", 0, "EUR")), payment(), operation(OperationKind.VOID, 1000))
