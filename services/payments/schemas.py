"""Bodies and answers of the payments API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from services.kit import ids
from services.payments.domain import EXPONENTS, Operation, Payment

PREFIX = "pay"

Amount = Annotated[int, Meta(ge=1, le=10**12, description="Minor units of the currency")]
Reference = Annotated[
    str,
    Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z", description="The merchant's own id, once only"),
]

MetadataName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")]
MetadataValue = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*\Z")]
Metadata = Annotated[
    dict[MetadataName, MetadataValue], Meta(max_length=20, description="The merchant's own, told back")
]


class CreatePayment(Struct, frozen=True, forbid_unknown_fields=True):
    """`capture`: automatic takes the money at once; manual reserves it for seven days."""

    amount: Amount
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z", description="ISO 4217")]
    source: Annotated[
        str, Meta(min_length=1, max_length=255, description="A token of the bank, tok_...; never a card number")
    ]
    reference: Reference
    capture: Literal["automatic", "manual"] = "automatic"
    description: Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*$")] | None = None
    metadata: Metadata = {}


class CapturePayment(Struct, frozen=True, forbid_unknown_fields=True):
    """Without an amount all is captured. What is not captured is released."""

    amount: Amount | None = None


class VoidPayment(Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object, or no body at all."""


class RefundPayment(Struct, frozen=True, forbid_unknown_fields=True):
    """Without an amount all that is left is refunded."""

    amount: Amount | None = None


class PaymentView(Struct, frozen=True):
    """`status` is processing while an operation's outcome is not known; `pending_operation` says which.

    Amounts are minor units: amount / 10^exponent is what people read.
    """

    id: str
    status: str
    amount: int
    currency: str
    exponent: int
    captured_amount: int
    refunded_amount: int
    reference: str
    source: str
    capture: str
    description: str | None
    failure_code: str | None
    pending_operation: str | None
    authorisation_expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, str]


class PaymentList(Struct, frozen=True):
    """Newest first. `next_cursor` is null on the last page."""

    data: list[PaymentView]
    next_cursor: str | None


class BankEvent(Struct, frozen=True):
    """A webhook of the bank. A hint only: it makes us ask sooner."""

    id: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[!-~]*\Z")]
    type: Annotated[str, Meta(max_length=200)]
    reference: Annotated[str, Meta(max_length=255)] | None


def payment_id(payment: Payment) -> str:
    """`pay_...`, as clients, events and logs know it."""
    return ids.encode(PREFIX, payment.id)


def view(payment: Payment, live: Operation | None = None) -> PaymentView:
    """How a payment looks from outside while `live` is not decided yet."""
    return PaymentView(
        id=payment_id(payment),
        status="processing" if live is not None else payment.status.value,
        amount=payment.amount,
        currency=payment.currency,
        exponent=EXPONENTS[payment.currency],
        captured_amount=payment.captured_amount,
        refunded_amount=payment.refunded_amount,
        reference=payment.reference,
        source=payment.source,
        capture="automatic" if payment.automatic_capture else "manual",
        description=payment.description,
        failure_code=payment.failure_code,
        pending_operation=live.kind.value if live is not None else None,
        authorisation_expires_at=payment.expires_at,
        created_at=payment.created_at,
        updated_at=payment.updated_at,
        metadata=dict(payment.metadata),
    )
