"""Payments: its API, and its errors mapped to ours at this one place.

This is the one place of the chain that tries again: every call here is a read or carries the till's own idempotency key.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Self
from uuid import UUID

import msgspec

from services.checkout import metrics, problems
from services.checkout.domain import Checkout, CheckoutStatus, status_of
from services.checkout.schemas import PAYMENT_PREFIX, PREFIX, CreateCheckout
from services.checkout.settings import CheckoutSettings
from services.contracts.payments import QUANTITY, SKU
from services.kit import ids
from services.kit.access import Unauthorised
from services.kit.client import Answer, Call, CallFailed, Client, ClientOptions, Reason
from services.kit.clock import SystemClock
from services.kit.deadline import DeadlineOver
from services.kit.errors import Problem
from services.patterns.adaptive_timeout import AdaptiveTimeout, TimeoutRule
from services.patterns.backoff import Backoff
from services.patterns.breaker import Breaker, Rule
from services.patterns.hedge import Hedge, hedge_budget
from services.patterns.retry import RetryBudget, RetryPolicy, Safety, retry_after_seconds

BREAKER = Rule(window_seconds=5.0, minimum_calls=20, failure_share=0.5, open_seconds=1.0, probes=3)
"""Counts timeouts, lost connections and undeclared 5xx. A declared 503 says when to come back: it is an answer."""
READ = TimeoutRule(floor=0.05, ceiling=1.0, initial=0.5)
HEDGE_AFTER = 0.95
HEDGE_AFTER_AT_FIRST_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Paid:
    """`replayed`: payments had answered this key before."""

    checkout: Checkout
    replayed: bool


class _Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body for payments."""

    amount: int
    currency: str
    source: str
    reference: str
    metadata: dict[str, str] = {}


def _asked(wanted: CreateCheckout) -> bytes:
    bought = {} if wanted.sku is None else {SKU: wanted.sku, QUANTITY: str(wanted.quantity)}
    return msgspec.json.encode(_Asked(wanted.amount, wanted.currency, wanted.source, wanted.reference, bought))


class _Payment(msgspec.Struct):
    id: str
    status: str
    amount: int
    currency: str
    reference: str


class _Problem(msgspec.Struct):
    type: str = ""
    payment: str = ""
    decline_code: str = ""


_NOTHING_DONE = frozenset({"bank_unavailable", "overloaded", "unavailable"})
"""What payments says only when it has begun nothing. Any other 503 may come from anywhere on the way."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Payments:
    """Use as an async context manager."""

    def __init__(self, settings: CheckoutSettings) -> None:
        budget = RetryBudget(monotonic, ratio=settings.retry_share)
        breaker = Breaker(BREAKER, monotonic, name="payments")
        self._latency = AdaptiveTimeout(READ, monotonic)
        self._hedge = Hedge(hedge_budget(monotonic), self._hedge_delay, metrics.HEDGES.inc)
        self._client = Client(
            "payments",
            settings.payments_url,
            ClientOptions(
                timeout=settings.budget_maximum_seconds,
                connections=settings.max_in_flight,
                retries=RetryPolicy(settings.attempts, Backoff(base=0.05, cap=0.5)),
            ),
            budget=budget,
            breaker=breaker,
            chance=random.SystemRandom(),
        )
        metrics.BREAKER_STATE.set_function(lambda: breaker.state)
        metrics.RETRY_TOKENS.set_function(lambda: budget.tokens)
        metrics.READ_TIMEOUT.set_function(self._latency.seconds)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(*_)

    async def pay(self, caller: Mapping[str, str], wanted: CreateCheckout) -> Paid:
        """Take the payment under the caller's own key. `caller`: its headers to pass on. Raises Problem."""
        call = Call("pay", "POST", "/v1/payments", Safety.UNKNOWN_SAFE, body=_asked(wanted), headers=caller)
        answer = await self._ask(call)
        if answer.status in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            checkout = _checkout(answer, processing=answer.status == HTTPStatus.ACCEPTED)
            return Paid(checkout, answer.headers.get("Idempotent-Replayed") == "true")
        raise _refusal(answer)

    async def find(self, caller: Mapping[str, str], checkout: UUID) -> Checkout:
        """The payment behind a checkout as it is now. Raises Problem."""
        call = Call(
            "find",
            "GET",
            f"/v1/payments/{ids.encode(PAYMENT_PREFIX, checkout)}",
            Safety.IDEMPOTENT,
            headers=caller,
            adaptive=self._latency,
            template="/v1/payments/{payment_id}",
        )
        answer = await self._hedge.run(lambda: self._ask(call), call.safety)
        if answer.status == HTTPStatus.OK:
            return _checkout(answer)
        raise _refusal(answer)

    def _hedge_delay(self) -> float:
        return self._latency.quantile(HEDGE_AFTER) or HEDGE_AFTER_AT_FIRST_SECONDS

    async def _ask(self, call: Call) -> Answer:
        try:
            return await self._client.call(call)
        except CallFailed as failed:
            if failed.reason in (Reason.TIMEOUT, Reason.NO_TIME_LEFT):
                raise DeadlineOver from None
            if failed.sent:
                raise problems.OutcomeUnknown(failed.retry_after) from None
            raise problems.NotNow(failed.retry_after) from None


def _checkout(answer: Answer, *, processing: bool = False) -> Checkout:
    try:
        found = msgspec.json.decode(answer.body, type=_Payment)
    except _UNREADABLE:
        raise problems.OutcomeUnknown from None
    payment, status = ids.decode(PAYMENT_PREFIX, found.id), status_of(found.status)
    if payment is None or status is None:
        raise problems.OutcomeUnknown
    return Checkout(
        payment, CheckoutStatus.PROCESSING if processing else status, found.amount, found.currency, found.reference
    )


def _refusal(answer: Answer) -> Problem:
    """What an answer that is not a success means for the till. Whatever is not surely a refusal is unknown."""
    try:
        given = msgspec.json.decode(answer.body, type=_Problem)
    except _UNREADABLE:
        given = _Problem()
    code = given.type.removeprefix("urn:lab:")
    payment = ids.decode(PAYMENT_PREFIX, given.payment)
    wait = retry_after_seconds(answer.retry_after, SystemClock().now())
    match answer.status, code:
        case 401, "unauthorised":
            return Unauthorised()
        case 402, "card_declined" if payment is not None:
            return problems.Declined(given.decline_code, ids.encode(PREFIX, payment))
        case 404, "no_such_payment":
            return problems.NoSuchCheckout()
        case 409, "request_in_flight":
            return problems.KeyInFlight()
        case 409, "reference_in_use" if payment is not None:
            return problems.ReferenceInUse(ids.encode(PREFIX, payment))
        case 422, "idempotency_key_reused":
            return problems.KeyReused()
        case 422, _ if code in problems.Refused.TITLES:
            return problems.Refused(code)
        case 503, _ if code in _NOTHING_DONE and not answer.sent_before:
            return problems.NotNow(wait)
        case 504, _:
            return DeadlineOver()
    return problems.OutcomeUnknown(wait)
