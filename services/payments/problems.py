"""The problem documents of the payments API, each with its stable type."""

from __future__ import annotations

from math import ceil

from services.kit.errors import InvalidQuery, OutcomeUnknown, Problem
from services.kit.idempotency import KeyInFlight, KeyReused

__all__ = ["InvalidQuery", "KeyInFlight", "KeyReused", "OutcomeUnknown"]


class ReferenceInUse(Problem):
    def __init__(self, payment: str) -> None:
        super().__init__(409, "reference_in_use", "A payment with this reference exists", extra={"payment": payment})


class OperationInProgress(Problem):
    def __init__(self) -> None:
        super().__init__(
            409,
            "operation_in_progress",
            "The outcome of an earlier operation on this payment is not known yet",
            headers={"Retry-After": "1"},
        )


class NotPossible(Problem):
    def __init__(self, kind: str, status: str) -> None:
        super().__init__(
            409,
            "illegal_state",
            "The payment's state does not allow this",
            detail=f"A payment that is {status} does not allow: {kind}.",
        )


class AmountTooLarge(Problem):
    def __init__(self, limit: int) -> None:
        super().__init__(
            422,
            "amount_too_large",
            "The amount is too large",
            detail=f"At most {limit} is possible.",
            extra={"limit": limit},
        )


class NoSuchPayment(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_payment", "There is no such payment")


class UnknownCurrency(Problem):
    def __init__(self) -> None:
        super().__init__(422, "unknown_currency", "The currency is not an ISO 4217 code in use")


class CardNumber(Problem):
    def __init__(self) -> None:
        super().__init__(
            422, "card_number_refused", "The source looks like a card number; send a token of the bank instead"
        )


class InvalidSource(Problem):
    def __init__(self) -> None:
        super().__init__(
            422, "invalid_source", "The source is not a token of the bank", detail="A token begins with tok_."
        )


class Declined(Problem):
    """402. `what`: card (the payment failed) or capture, void, refund (the payment stays as it was)."""

    def __init__(self, what: str, code: str, payment: str) -> None:
        super().__init__(
            402, f"{what}_declined", f"The bank declined the {what}", extra={"decline_code": code, "payment": payment}
        )


class BankAway(Problem):
    """The breaker before the card's shard of the bank is open. Certain: nothing was sent, nothing written, no key used up."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            503,
            "bank_unavailable",
            "The bank cannot be reached for this card now; nothing was done",
            detail="Send the same request again later, or another means of payment now.",
            headers={"Retry-After": str(max(1, ceil(seconds)))},
        )


class NoSuchShard(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_shard", "The bank has no such shard")


class InvalidSignature(Problem):
    def __init__(self) -> None:
        super().__init__(401, "invalid_signature", "The signature does not match, or is too old")
