import pytest

from services.checkout.domain import CheckoutStatus, status_of
from services.payments.domain import PaymentStatus


@pytest.mark.parametrize("status", list(PaymentStatus))
def test_every_state_of_a_payment_means_something_at_the_till(status: PaymentStatus) -> None:
    assert status_of(status.value) is not None


def test_only_captured_money_is_paid() -> None:
    assert {status for status in PaymentStatus if status_of(status.value) is CheckoutStatus.PAID} == {
        PaymentStatus.CAPTURED,
        PaymentStatus.PARTIALLY_REFUNDED,
    }


def test_a_state_that_we_do_not_know_means_nothing() -> None:
    assert status_of("sideways") is None
