"""Bodies and answers of the checkout API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from services.checkout.domain import Checkout
from services.kit import ids

PREFIX = "chk"
PAYMENT_PREFIX = "pay"


class CreateCheckout(Struct, frozen=True, forbid_unknown_fields=True):
    """Pay at once."""

    amount: Annotated[int, Meta(ge=1, le=10**12, description="Minor units of the currency")]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z", description="ISO 4217")]
    source: Annotated[
        str, Meta(min_length=5, max_length=255, pattern=r"^tok_[!-~]+\Z", description="A token of the bank, tok_...")
    ]
    reference: Annotated[
        str,
        Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z", description="The shop's id of the order"),
    ]
    sku: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=64,
                pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*\Z",
                description="What is bought: an article of the catalogue, whose stock then goes down",
            ),
        ]
        | None
    ) = None
    quantity: Annotated[int, Meta(ge=1, le=10_000, description="How many of it; says nothing without sku")] = 1


class CheckoutView(Struct, frozen=True):
    """`status`: processing, paid, failed, cancelled or refunded."""

    id: str
    payment: str
    status: str
    amount: int
    currency: str
    reference: str


def view(checkout: Checkout) -> CheckoutView:
    """How a checkout looks from outside."""
    return CheckoutView(
        ids.encode(PREFIX, checkout.id),
        ids.encode(PAYMENT_PREFIX, checkout.id),
        checkout.status.value,
        checkout.amount,
        checkout.currency,
        checkout.reference,
    )
