"""Body of the events on `payments.payment.v1`. The key is `payment_id`; the kind of event is in the header `ce_type`."""

from __future__ import annotations

from typing import Literal

import msgspec

EventType = Literal[
    "payments.payment.authorised",
    "payments.payment.captured",
    "payments.payment.voided",
    "payments.payment.partially_refunded",
    "payments.payment.refunded",
    "payments.payment.failed",
    "payments.payment.expired",
]


class PaymentEvent(msgspec.Struct, frozen=True):
    """A payment as it stood after the change. Amounts are integer minor units of `currency` (ISO 4217).

    `sequence` counts the events of one payment from 1 without gaps. Consumers dedup by the header `ce_id`.
    `metadata` is what the merchant gave the payment along; see SKU and QUANTITY.
    """

    payment_id: str
    merchant_id: str
    reference: str
    source: str
    status: str
    amount: int
    currency: str
    captured_amount: int
    refunded_amount: int
    sequence: int
    metadata: dict[str, str] = {}


SKU, QUANTITY = "sku", "quantity"
"""Names in `metadata` by which a till says what was bought: an article of the catalogue, and how many of it (1 if not said)."""
