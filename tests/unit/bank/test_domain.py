from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.simulators.bank.domain import Charge, ChargeStatus, Decision, Kind, decide

AUTHORISED = Charge("ch", 1000, ChargeStatus.AUTHORISED)


def test_a_capture_takes_a_part_and_releases_the_rest() -> None:
    assert decide(AUTHORISED, Kind.CAPTURE, 400).charge == Charge("ch", 1000, ChargeStatus.CAPTURED, captured=400)


def test_a_capture_above_the_authorised_amount_is_declined() -> None:
    assert decide(AUTHORISED, Kind.CAPTURE, 1001) == Decision(AUTHORISED, "amount_too_large")


def test_there_is_one_capture_only() -> None:
    captured = decide(AUTHORISED, Kind.CAPTURE, 400).charge
    assert decide(captured, Kind.CAPTURE, 100) == Decision(captured, "charge_captured")


def test_a_voided_charge_cannot_be_captured_and_a_captured_one_cannot_be_voided() -> None:
    voided = decide(AUTHORISED, Kind.VOID, 0).charge
    captured = decide(AUTHORISED, Kind.CAPTURE, 1000).charge
    assert decide(voided, Kind.CAPTURE, 1).decline_code == "charge_voided"
    assert decide(captured, Kind.VOID, 0).decline_code == "charge_captured"


def test_an_authorisation_cannot_be_refunded() -> None:
    assert decide(AUTHORISED, Kind.REFUND, 1).decline_code == "charge_authorised"


operations = st.lists(
    st.tuples(st.sampled_from([Kind.CAPTURE, Kind.VOID, Kind.REFUND]), st.integers(1, 1500)), max_size=12
)


@given(operations)
def test_whatever_is_asked_captured_stays_within_amount_and_refunded_within_captured(
    asked: list[tuple[Kind, int]],
) -> None:
    charge = AUTHORISED
    for kind, amount in asked:
        decision = decide(charge, kind, amount)
        if decision.decline_code:
            assert decision.charge == charge
        charge = decision.charge
        assert 0 <= charge.refunded <= charge.captured <= charge.amount
