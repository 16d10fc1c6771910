"""The problem documents of the payments API, each with its stable type."""

from __future__ import annotations

from services.kit.errors import Problem


class Unauthorised(Problem):
    def __init__(self) -> None:
        super().__init__(
            401, "unauthorised", "Send a valid API key as a bearer token", headers={"WWW-Authenticate": "Bearer"}
        )


class KeyMissing(Problem):
    def __init__(self) -> None:
        super().__init__(400, "idempotency_key_missing", "Send the header Idempotency-Key, once")


class KeyInvalid(Problem):
    def __init__(self) -> None:
        super().__init__(400, "idempotency_key_invalid", "An Idempotency-Key is 1 to 255 visible ASCII characters")


class KeyReused(Problem):
    def __init__(self) -> None:
        super().__init__(422, "idempotency_key_reused", "This Idempotency-Key was used for another request")


class KeyInFlight(Problem):
    def __init__(self) -> None:
        super().__init__(
            409,
            "request_in_flight",
            "The first request with this Idempotency-Key is still being worked on",
            headers={"Retry-After": "1"},
        )


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


class InvalidQuery(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(422, "invalid_request", "The query is not valid", detail=detail)


class Declined(Problem):
    """402. `what`: card (the payment failed) or capture, void, refund (the payment stays as it was)."""

    def __init__(self, what: str, code: str, payment: str) -> None:
        super().__init__(
            402, f"{what}_declined", f"The bank declined the {what}", extra={"decline_code": code, "payment": payment}
        )


class Busy(Problem):
    def __init__(self) -> None:
        super().__init__(
            503, "overloaded", "Too many requests are in flight; nothing was done", headers={"Retry-After": "1"}
        )


class OutcomeUnknown(Problem):
    """The database went away in the middle. The key makes it safe to ask again."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "outcome_unknown",
            "Whether this was done is not known",
            detail="Send the same request with the same Idempotency-Key again.",
            headers={"Retry-After": "1"},
        )


class InvalidSignature(Problem):
    def __init__(self) -> None:
        super().__init__(401, "invalid_signature", "The signature does not match, or is too old")
