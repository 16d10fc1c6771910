"""A checkout is a payment seen from the till: its id and its state are functions of the payment's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class CheckoutStatus(StrEnum):
    """`processing`: nobody knows yet; ask again."""

    PROCESSING = "processing"
    PAID = "paid"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


_OF_PAYMENT = {
    "processing": CheckoutStatus.PROCESSING,
    "authorised": CheckoutStatus.PROCESSING,
    "captured": CheckoutStatus.PAID,
    "partially_refunded": CheckoutStatus.PAID,
    "refunded": CheckoutStatus.REFUNDED,
    "failed": CheckoutStatus.FAILED,
    "voided": CheckoutStatus.CANCELLED,
    "expired": CheckoutStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Checkout:
    """`id` is the payment's own UUID, so that a checkout is found without being stored. Amounts in minor units."""

    id: UUID
    status: CheckoutStatus
    amount: int
    currency: str
    reference: str


def status_of(payment_status: str) -> CheckoutStatus | None:
    """What a payment's state means at the till; None for a state that we do not know."""
    return _OF_PAYMENT.get(payment_status)
