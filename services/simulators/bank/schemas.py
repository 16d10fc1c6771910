"""Bodies and answers of the bank's API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from services.simulators.bank.domain import Kind

Amount = Annotated[int, Meta(ge=1, le=10**12)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Source = Annotated[str, Meta(pattern=r"^tok_[!-~]{1,251}\Z")]
Reference = Annotated[str, Meta(pattern=r"^[!-~]{1,255}\Z")]


class ChargeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`amount` in minor units. Without a reference the bank charges each time it is asked."""

    source: Source
    amount: Amount
    currency: Currency
    capture: bool
    reference: Reference | None = None

    @property
    def fingerprint(self) -> str:
        """Two requests under one reference must agree in this."""
        return f"charge {self.source} {self.amount} {self.currency} {self.capture}"


class AmountRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of capture and refund."""

    amount: Amount
    reference: Reference | None = None


class VoidRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of void."""

    reference: Reference | None = None


class ChargeAnswer(Struct, frozen=True):
    """`status`: authorised, captured or declined (then `decline_code` says why)."""

    id: str
    reference: str | None
    status: str
    amount: int
    currency: str
    decline_code: str | None
    created_at: datetime
    kind: Kind = Kind.CHARGE


class OperationAnswer(Struct, frozen=True):
    """`status`: succeeded or declined."""

    id: str
    reference: str | None
    charge: str
    kind: Kind
    status: str
    amount: int
    decline_code: str | None


class CancelledAnswer(Struct, frozen=True):
    """The reference was never seen, and never will be executed."""

    reference: str
    status: str = "cancelled"
    kind: Kind = Kind.CANCELLED
