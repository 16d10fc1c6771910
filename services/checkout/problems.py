"""The problem documents of the checkout API, each with its stable type."""

from __future__ import annotations

from typing import ClassVar

from services.kit.errors import OutcomeUnknown, Problem, whole_seconds
from services.kit.idempotency import KeyInFlight, KeyReused

__all__ = ["KeyInFlight", "KeyReused", "OutcomeUnknown"]


class ReferenceInUse(Problem):
    def __init__(self, checkout: str) -> None:
        super().__init__(409, "reference_in_use", "A checkout with this reference exists", extra={"checkout": checkout})


class Refused(Problem):
    """422: a field that only payments can judge."""

    TITLES: ClassVar[dict[str, str]] = {
        "unknown_currency": "The currency is not an ISO 4217 code in use",
        "card_number_refused": "The source looks like a card number; send a token of the bank instead",
        "invalid_source": "The source is not a token of the bank",
        "invalid_request": "The body does not have the documented shape",
    }

    def __init__(self, code: str) -> None:
        super().__init__(422, code, self.TITLES[code])


class Declined(Problem):
    def __init__(self, decline_code: str, checkout: str) -> None:
        super().__init__(
            402,
            "card_declined",
            "The bank declined the card",
            extra={"decline_code": decline_code, "checkout": checkout},
        )


class NoSuchCheckout(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_checkout", "There is no such checkout")


class NotNow(Problem):
    """503: payments takes nothing on at the moment, and nothing was done."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__(
            503,
            "unavailable",
            "Payments cannot be taken at the moment; nothing was done",
            headers={"Retry-After": whole_seconds(retry_after)},
        )
