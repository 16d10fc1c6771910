"""Money, states and what the bank's answer does to a payment. Pure: no framework, no driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

OPERATION_PREFIX = "op"
"""An operation's bank reference is its id with this prefix, so that one can be found from the other."""

AUTHORISATION_LASTS = timedelta(days=7)
"""Card schemes keep the money reserved for about so long; afterwards a capture may be refused."""

EXPIRY_RETRY = timedelta(hours=1)
"""Pause before an expired authorisation is voided again when the bank has declined that."""

_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
          CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL
          HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR
          MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK
          SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG
          YER ZAR ZMW ZWG""",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
EXPONENTS: dict[str, int] = {code: exponent for exponent, codes in _EXPONENTS.items() for code in codes.split()}
"""ISO 4217, list one: digits after the point of each currency that money can be paid in (no metals, no test codes)."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units (cents, yen, fils): an integer, never a float."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in EXPONENTS:
            raise UnknownCurrency

    @property
    def exponent(self) -> int:
        """Digits after the point: 2 for EUR, 0 for JPY, 3 for KWD."""
        return EXPONENTS[self.currency]

    def __str__(self) -> str:
        return f"{Decimal(self.amount).scaleb(-self.exponent):.{self.exponent}f} {self.currency}"


class PaymentStatus(StrEnum):
    """`processing`: the authorisation's outcome is not known yet."""

    PROCESSING = "processing"
    AUTHORISED = "authorised"
    CAPTURED = "captured"
    VOIDED = "voided"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    FAILED = "failed"
    EXPIRED = "expired"


class OperationKind(StrEnum):
    """What the bank is asked to do."""

    AUTHORISE = "authorise"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class OperationStatus(StrEnum):
    """`pending`: someone holds the lease and is at it. `unknown`: the bank may have done it, or may yet do it."""

    PENDING = "pending"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


S, K = PaymentStatus, OperationKind
TRANSITIONS: frozenset[tuple[PaymentStatus, PaymentStatus]] = frozenset(
    {
        (S.PROCESSING, S.AUTHORISED),
        (S.PROCESSING, S.CAPTURED),
        (S.PROCESSING, S.FAILED),
        (S.AUTHORISED, S.CAPTURED),
        (S.AUTHORISED, S.VOIDED),
        (S.AUTHORISED, S.EXPIRED),
        (S.CAPTURED, S.PARTIALLY_REFUNDED),
        (S.CAPTURED, S.REFUNDED),
        (S.PARTIALLY_REFUNDED, S.PARTIALLY_REFUNDED),
        (S.PARTIALLY_REFUNDED, S.REFUNDED),
    }
)
"""The same table stands in the database (migration 0001), where a trigger keeps it; a test compares the two."""

ALLOWED_IN: dict[OperationKind, frozenset[PaymentStatus]] = {
    K.AUTHORISE: frozenset({S.PROCESSING}),
    K.CAPTURE: frozenset({S.AUTHORISED}),
    K.VOID: frozenset({S.AUTHORISED}),
    K.REFUND: frozenset({S.CAPTURED, S.PARTIALLY_REFUNDED}),
}


class PaymentError(Exception):
    """A request that the rules refuse."""


class UnknownCurrency(PaymentError):
    """Not an ISO 4217 code of a currency in use."""


class IllegalState(PaymentError):
    """The payment's state does not allow this operation."""

    def __init__(self, kind: OperationKind, status: PaymentStatus) -> None:
        super().__init__(f"{kind} is not possible for a payment that is {status}")
        self.kind = kind
        self.status = status


class AmountTooLarge(PaymentError):
    """More than is authorised (capture) or left of what was captured (refund)."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"at most {limit}")
        self.limit = limit


class LedgerUnbalanced(PaymentError):
    """The database refused a ledger transaction whose entries do not sum to zero. Always a bug of ours."""


@dataclass(frozen=True, slots=True)
class Payment:
    """Amounts in minor units: 0 <= refunded_amount <= captured_amount <= amount. `sequence` counts its events.

    `metadata` is the merchant's: nothing here reads it.
    """

    id: UUID
    merchant_id: str
    reference: str
    source: str
    amount: int
    currency: str
    automatic_capture: bool
    description: str | None
    status: PaymentStatus
    created_at: datetime
    updated_at: datetime
    captured_amount: int = 0
    refunded_amount: int = 0
    charge_id: str | None = None
    failure_code: str | None = None
    expires_at: datetime | None = None
    sequence: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of the bank under one reference, however often it is sent.

    `attempts`: how often somebody has taken it up, to send it or to ask. `unanswered`: how many sendings got no answer.
    `expiring`: a void that we began because the authorisation's time is over.
    """

    id: UUID
    payment_id: UUID
    kind: OperationKind
    amount: int
    bank_reference: str
    created_at: datetime
    status: OperationStatus = OperationStatus.PENDING
    attempts: int = 0
    unanswered: int = 0
    expiring: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What the bank's answer says it did; None where it does not tell."""

    reference: str | None = None
    amount: int | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The bank did it. `bank_id` is its own id of the charge or operation."""

    bank_id: str
    said: Said = Said()


@dataclass(frozen=True, slots=True)
class Refused:
    """The bank did not do it and never will under this reference. `code` is ours, or the bank's decline code."""

    code: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say. `retry_after` in seconds, if the bank named a time.

    `unanswered`: the request may have arrived, and the bank may still be at it.
    """

    reason: str
    retry_after: float | None = None
    unanswered: bool = False


Final = Done | Refused
Outcome = Done | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a ledger transaction; positive is debit. `account` is `bank` or `merchant:<id>`."""

    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What a final answer changes, all in one commit. Without `event_type` the payment stays as it was."""

    payment: Payment
    operation_status: OperationStatus
    event_type: str | None
    entries: tuple[Entry, ...] = ()


def agrees(done: Done, payment: Payment, operation: Operation) -> bool:
    """Whether the bank did what it was asked: our reference, our amount, our currency, as far as it tells.

    A void moves no amount of its own, so the bank's figure there is not ours to compare.
    """
    asked = Said(operation.bank_reference, None if operation.kind is K.VOID else operation.amount, payment.currency)
    pairs = (
        (done.said.reference, asked.reference),
        (done.said.amount, asked.amount),
        (done.said.currency, asked.currency),
    )
    return all(said is None or wanted is None or said == wanted for said, wanted in pairs)


def begin(payment: Payment, kind: OperationKind, amount: int | None, now: datetime) -> int:
    """Check that the operation may begin and return its amount: what was asked, or all there is.

    An authorisation whose time is over may be voided but not captured. Raises IllegalState, AmountTooLarge.
    """
    if payment.status not in ALLOWED_IN[kind]:
        raise IllegalState(kind, payment.status)
    if kind is K.CAPTURE and payment.expires_at is not None and payment.expires_at <= now:
        raise IllegalState(kind, S.EXPIRED)
    limit = payment.captured_amount - payment.refunded_amount if kind is K.REFUND else payment.amount
    if kind is K.VOID or amount is None:
        return limit
    if amount > limit:
        raise AmountTooLarge(limit)
    return amount


def settle(payment: Payment, operation: Operation, final: Final, now: datetime) -> Settled:
    """Apply the bank's final answer. Raises IllegalState, which means that the caller's view is stale."""
    if payment.status not in ALLOWED_IN[operation.kind]:
        raise IllegalState(operation.kind, payment.status)
    if isinstance(final, Refused):
        return _settle_refused(payment, operation, final, now)
    if operation.kind is K.AUTHORISE:
        payment = replace(payment, charge_id=final.bank_id)
    after = _after(payment, operation, now)
    assert (payment.status, after.status) in TRANSITIONS
    return Settled(
        replace(after, updated_at=now, sequence=payment.sequence + 1),
        OperationStatus.SUCCEEDED,
        f"payments.payment.{after.status}",
        _entries(payment, after),
    )


def _after(payment: Payment, operation: Operation, now: datetime) -> Payment:
    match operation.kind:
        case K.AUTHORISE if payment.automatic_capture:
            return replace(payment, status=S.CAPTURED, captured_amount=operation.amount)
        case K.AUTHORISE:
            return replace(payment, status=S.AUTHORISED, expires_at=now + AUTHORISATION_LASTS)
        case K.CAPTURE:
            return replace(payment, status=S.CAPTURED, captured_amount=operation.amount, expires_at=None)
        case K.VOID:
            return replace(payment, status=S.EXPIRED if operation.expiring else S.VOIDED, expires_at=None)
        case K.REFUND:
            refunded = payment.refunded_amount + operation.amount
            status = S.REFUNDED if refunded == payment.captured_amount else S.PARTIALLY_REFUNDED
            return replace(payment, status=status, refunded_amount=refunded)


def _settle_refused(payment: Payment, operation: Operation, refused: Refused, now: datetime) -> Settled:
    if operation.expiring:
        payment = replace(payment, expires_at=now + EXPIRY_RETRY, updated_at=now)
    if operation.kind is not K.AUTHORISE:
        return Settled(payment, OperationStatus.FAILED, None)
    failed = replace(payment, status=S.FAILED, failure_code=refused.code, updated_at=now, sequence=payment.sequence + 1)
    return Settled(failed, OperationStatus.FAILED, "payments.payment.failed")


def _entries(before: Payment, after: Payment) -> tuple[Entry, ...]:
    """Money moves on capture (the bank owes us, we owe the merchant) and back on refund; a reservation moves none."""
    moved = (after.captured_amount - before.captured_amount) - (after.refunded_amount - before.refunded_amount)
    if moved == 0:
        return ()
    return Entry("bank", moved), Entry(f"merchant:{after.merchant_id}", -moved)


_WORD = re.compile(r"[0-9A-Za-z]+")
_DIGITS = re.compile(r"[0-9]{13,19}")


def looks_like_card(source: str) -> bool:
    """13 to 19 digits that pass Luhn (ISO/IEC 7812-1), alone among letters or cut up by any punctuation, also behind `tok_`."""
    words = [word for word in _WORD.findall(source) if word != "tok"]
    return any(_is_card(text) for text in (*words, "".join(words)))


def _is_card(text: str) -> bool:
    return _DIGITS.fullmatch(text) is not None and _luhn([int(digit) for digit in text])


def _luhn(digits: list[int]) -> bool:
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
