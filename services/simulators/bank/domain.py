"""What a bank decides: charges, operations on them, and when they are declined. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256


class Kind(StrEnum):
    """What a reference was used for."""

    CHARGE = "charge"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    CANCELLED = "cancelled"


class ChargeStatus(StrEnum):
    """A partial refund leaves the charge captured; `refunded` says how much went back."""

    AUTHORISED = "authorised"
    CAPTURED = "captured"
    VOIDED = "voided"
    DECLINED = "declined"


EFFECT_OF_CHARGE = {
    ChargeStatus.AUTHORISED: ("authorise",),
    ChargeStatus.CAPTURED: ("authorise", "capture"),
    ChargeStatus.DECLINED: (),
}


def shard_of(source: str, shards: int) -> int:
    """Whose card this is: the first 8 bytes of the token's SHA-256, big-endian, modulo the number of shards (1 or more)."""
    return int.from_bytes(sha256(source.encode()).digest()[:8], "big") % shards


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge as it stands; amounts are minor units, captured <= amount, refunded <= captured."""

    id: str
    amount: int
    status: ChargeStatus
    captured: int = 0
    refunded: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The charge afterwards, or why it stays as it was."""

    charge: Charge
    decline_code: str | None = None


def decide(charge: Charge, kind: Kind, amount: int) -> Decision:
    """One capture, of a part if wanted (the rest is released); a void before it; refunds after it up to what was captured."""
    if kind is Kind.REFUND:
        return _refund(charge, amount)
    if charge.status is not ChargeStatus.AUTHORISED:
        return Decision(charge, f"charge_{charge.status}")
    if kind is Kind.VOID:
        return Decision(Charge(charge.id, charge.amount, ChargeStatus.VOIDED))
    if amount > charge.amount:
        return Decision(charge, "amount_too_large")
    return Decision(Charge(charge.id, charge.amount, ChargeStatus.CAPTURED, captured=amount))


def _refund(charge: Charge, amount: int) -> Decision:
    if charge.status is not ChargeStatus.CAPTURED:
        return Decision(charge, f"charge_{charge.status}")
    if charge.refunded + amount > charge.captured:
        return Decision(charge, "amount_too_large")
    return Decision(Charge(charge.id, charge.amount, charge.status, charge.captured, charge.refunded + amount))
