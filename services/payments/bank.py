"""The bank: calls with a deadline, and its errors mapped to done, refused or unknown. Nothing else knows its API."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import date
from http import HTTPStatus
from time import monotonic
from typing import Self

import msgspec

from services.kit import deadline as deadlines
from services.kit import tracing
from services.kit.client import NO_RETRIES, Answer, Call, CallFailed, Client, ClientOptions, Reason
from services.patterns.backoff import Backoff
from services.patterns.breaker import Breaker, Event, KeyedBreakers, Permit, Rule, StateChanged
from services.patterns.deadline import Deadline
from services.patterns.retry import RetryBudget, RetryPolicy, Safety
from services.payments.domain import Done, Operation, OperationKind, Outcome, Payment, Refused, Said, Unknown
from services.payments.metrics import BANK_CALLS, BANK_REFUSED, BANK_UNKNOWN, BREAKER_CHANGES, BREAKER_STATE
from services.payments.settings import PaymentsSettings
from services.payments.shards import Shards

CONNECTIONS = 512
"""To one shard. More commands than `max_in_flight` are never under way, so none waits for a connection behind another."""
SIGNATURE_TOLERANCE_SECONDS = 300

BREAKER = Rule(
    window_seconds=4.0,
    minimum_calls=10,
    failure_share=0.5,
    slow_seconds=1.0,
    slow_share=0.5,
    open_seconds=1.0,
    probes=3,
    probe_seconds=35.0,
)
"""Of each shard. While it is open a client is told at once that nothing was done, and the resolver does not hammer the bank.

A shard sees a tenth of the calls, so ten must do. A second is ten times the bank's p99; the probe time is above the longest
`bank_timeout_seconds`.
"""
RETRIES = RetryPolicy(attempts=2, backoff=Backoff(base=0.05, cap=0.25))
"""Within one command: a connection that broke. What lasts longer is the client's and the resolver's."""
BUDGET_SHARE = 0.05

SETTLEMENT_SECONDS = 60.0
LARGEST_SETTLEMENT_BYTES = 512 * 1024 * 1024

CANCELLED = "cancelled_at_bank"
REJECTED = "rejected_by_bank"

_CODE = re.compile(r"[a-z0-9_]{1,64}")
_REFUSING = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY})
"""The bank looks up the reference first, so it says this only of a request that it never executed and never will.

Its own problem type must be there: a 400 or 404 of something between us (an earlier sending may have charged) proves nothing.
"""


class _Charge(msgspec.Struct):
    reference: str
    source: str
    amount: int
    currency: str
    capture: bool


class _Amount(msgspec.Struct):
    reference: str
    amount: int


class _Void(msgspec.Struct):
    reference: str


class _Answer(msgspec.Struct):
    status: str
    id: str = ""
    decline_code: str | None = None
    reference: str | None = None
    amount: int | None = None
    currency: str | None = None


class _CancelAnswer(msgspec.Struct):
    status: str
    operation: _Answer | None = None


class _ProblemAnswer(msgspec.Struct):
    type: str = ""


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BankUnavailable(Exception):
    """A file could not be fetched; the message is one sentence."""


class ShardAway(Exception):
    """The shard of a card is not to be called now; perhaps after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:.1f} s")
        self.seconds = seconds


class Place:
    """One call's permit of the breaker before a card's shard, taken before anything is written.

    Looking is not enough: between look and call others may take all the probes of a half-open breaker, and what was written
    for a call that is then refused is a promise that nobody wanted. A permit that no call has used goes back at the end of
    the block.
    """

    def __init__(self, breaker_of: Callable[[str], Breaker]) -> None:
        self._breaker_of = breaker_of
        self._held: tuple[Breaker, Permit] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[0].release(held[1], None)

    def take(self, source: str) -> None:
        """Once. Raises ShardAway."""
        breaker = self._breaker_of(source)
        permit = breaker.acquire()
        if permit is None:
            BANK_REFUSED.labels(breaker.name).inc()
            raise ShardAway(breaker.retry_after)
        self._held = breaker, permit

    def use(self) -> Permit | None:
        """For the call, which from now on answers for it."""
        held, self._held = self._held, None
        return held[1] if held else None


class Bank:
    """One keep-alive client and one breaker a shard, one retry budget for all. Use as an async context manager.

    `url` is for what belongs to no card; without `shards` it serves all cards. `timeout` bounds a call, retries included.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float,
        shards: tuple[str, ...] = (),
        rule: Rule = BREAKER,
        retries: RetryPolicy = NO_RETRIES,
    ) -> None:
        self._shards = Shards(shards or (url,))
        self._timeout = timeout
        self._breakers = KeyedBreakers(rule, monotonic, most_keys=len(self._shards.urls), on_event=_count)
        authorised = {"Authorization": f"Bearer {api_key}"}
        options = ClientOptions(
            timeout=timeout, connections=CONNECTIONS, headers=authorised, retries=retries, retried=frozenset()
        )
        budget = RetryBudget(monotonic, ratio=BUDGET_SHARE)
        self._clients = [
            Client("bank", base, options, budget=budget, breaker=self._breaker(number), judge=judge)
            for number, base in enumerate(self._shards.urls)
        ]
        files = ClientOptions(
            timeout=SETTLEMENT_SECONDS, connections=1, headers=authorised, max_body_bytes=LARGEST_SETTLEMENT_BYTES
        )
        self._files = Client("bank", url, files)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in (*self._clients, self._files):
            await self._open.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def _breaker(self, number: int) -> Breaker:
        breaker = self._breakers.of(str(number))
        BREAKER_STATE.labels(number).set_function(lambda: breaker.state)
        return breaker

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """By the shard's number."""
        return {breaker.name: breaker for breaker in self._breakers}

    def place(self) -> Place:
        """For one command, around all that it does."""
        return Place(lambda source: self._breakers.of(str(self._shards.of(source))))

    async def execute(self, payment: Payment, operation: Operation, place: Place | None = None) -> Outcome:
        """Send it under its reference, which makes it safe to send as often as needed. `place`: its permit."""
        reference = operation.bank_reference
        body: msgspec.Struct
        match operation.kind:
            case OperationKind.AUTHORISE:
                path = "/v1/charges"
                body = _Charge(reference, payment.source, operation.amount, payment.currency, payment.automatic_capture)
            case OperationKind.CAPTURE:
                path, body = "/v1/charges/{charge_id}/capture", _Amount(reference, operation.amount)
            case OperationKind.VOID:
                path, body = "/v1/charges/{charge_id}/void", _Void(reference)
            case OperationKind.REFUND:
                path, body = "/v1/charges/{charge_id}/refunds", _Amount(reference, operation.amount)
        call = Call(
            operation.kind.value,
            "POST",
            path.replace("{charge_id}", str(payment.charge_id)),
            Safety.UNKNOWN_SAFE,
            msgspec.json.encode(body),
            template=path,
        )
        return await self._call(payment, call, place.use() if place else None)

    async def ask(self, payment: Payment, operation: Operation) -> Outcome:
        """What became of it. *Not found* comes back as Unknown: the call may still be on its way."""
        path = "/v1/operations/{reference}"
        return await self._call(payment, Call("ask", "GET", _named(path, operation), Safety.IDEMPOTENT, template=path))

    async def cancel(self, payment: Payment, operation: Operation) -> Outcome:
        """Make sure that it is never executed, or learn that it was. A cancelled one is Refused(CANCELLED)."""
        path = "/v1/operations/{reference}/cancel"
        return await self._call(
            payment, Call("cancel", "POST", _named(path, operation), Safety.IDEMPOTENT, b"{}", template=path)
        )

    async def settlement(self, day: date) -> bytes:
        """That day's settlement file. Raises BankUnavailable."""
        try:
            answer = await self._files.call(
                Call(
                    "settlement",
                    "GET",
                    f"/v1/settlements/{day}.csv",
                    Safety.IDEMPOTENT,
                    template="/v1/settlements/{day}.csv",
                )
            )
        except CallFailed as failed:
            raise BankUnavailable(f"The settlement file could not be fetched ({failed.reason}).") from None
        if answer.status != HTTPStatus.OK:
            raise BankUnavailable(f"The bank answered {answer.status} when asked for its settlement file.")
        return answer.body

    async def _call(self, payment: Payment, call: Call, permit: Permit | None = None) -> Outcome:
        started = monotonic()
        outcome = await self._outcome(self._clients[self._shards.of(payment.source)], call, permit)
        if isinstance(outcome, Unknown):
            BANK_UNKNOWN.labels(outcome.reason).inc()
            if outcome.reason == Reason.BREAKER_OPEN:
                return outcome
        said = type(outcome).__name__.lower()
        BANK_CALLS.labels(call.name, said).observe(monotonic() - started, tracing.exemplar())
        return outcome

    async def _outcome(self, client: Client, call: Call, permit: Permit | None) -> Outcome:
        until = Deadline.after(self._timeout)
        if (callers := deadlines.current()) is not None:
            until = min(until, callers)
        try:
            answer = await client.call(call, deadline=until, permit=permit)
        except CallFailed as failed:
            return Unknown(failed.reason.value, unanswered=failed.sent)
        return interpret(
            answer.status, answer.body, answer.retry_after, method=call.method, cancelling=call.name == "cancel"
        )


def _named(template: str, operation: Operation) -> str:
    return template.replace("{reference}", operation.bank_reference)


def bank_client(settings: PaymentsSettings, *, retries: RetryPolicy = NO_RETRIES) -> Bank:
    """The bank as the settings say."""
    return Bank(
        settings.bank_url,
        settings.bank_api_key.get_secret_value(),
        timeout=settings.bank_timeout_seconds,
        shards=settings.bank_shard_urls,
        retries=retries,
    )


def judge(answer: Answer) -> bool | None:
    """Whether the shard is well. A 4xx tells nothing: a shard that finds nothing may charge nobody either."""
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return False
    return True if answer.status < HTTPStatus.BAD_REQUEST else None


def _count(event: Event) -> None:
    if isinstance(event, StateChanged):
        BREAKER_CHANGES.labels(event.name, event.after.name.lower(), event.reason.value).inc()


def interpret(status: int, body: bytes, retry_after: str | None, *, method: str, cancelling: bool = False) -> Outcome:
    """What an answer of the bank says about the operation. Whatever is not surely final is Unknown."""
    if status in (HTTPStatus.OK, HTTPStatus.CREATED):
        return _interpret_cancel(body) if cancelling else _interpret_answer(body)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Unknown("rate_limited", _seconds(retry_after))
    if status == HTTPStatus.CONFLICT and _problem_type(body) == "urn:bank:reference_cancelled":
        return Refused(CANCELLED)
    if status in _REFUSING and method == "POST" and not cancelling and _problem_type(body).startswith("urn:bank:"):
        return Refused(REJECTED)
    if status == HTTPStatus.NOT_FOUND:
        return Unknown("not_found")
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return Unknown("server_error", unanswered=True)
    return Unknown("server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "unexpected_status")


def _interpret_answer(body: bytes) -> Outcome:
    try:
        return _outcome(msgspec.json.decode(body, type=_Answer))
    except _UNREADABLE:
        return Unknown("garbled")


def _interpret_cancel(body: bytes) -> Outcome:
    try:
        answer = msgspec.json.decode(body, type=_CancelAnswer)
    except _UNREADABLE:
        return Unknown("garbled")
    if answer.status == "cancelled":
        return Refused(CANCELLED)
    return Unknown("garbled") if answer.operation is None else _outcome(answer.operation)


def _outcome(answer: _Answer) -> Outcome:
    match answer.status:
        case "authorised" | "captured" | "succeeded" if answer.id:
            return Done(answer.id, Said(answer.reference, answer.amount, answer.currency))
        case "declined":
            code = answer.decline_code or ""
            return Refused(code if _CODE.fullmatch(code) else "declined")
        case "cancelled":
            return Refused(CANCELLED)
    return Unknown("garbled")


def _problem_type(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_ProblemAnswer).type
    except _UNREADABLE:
        return ""


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return min(60.0, float(retry_after))


def signature_holds(header: str, body: bytes, secret: bytes, now: float) -> bool:
    """Check `t=<unix>,v1=<hex hmac-sha256 of "<t>.<body>">` in constant time; older or newer than 5 minutes fails."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    stamp, given = parts.get("t", ""), parts.get("v1", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12 and given.isascii()):
        return False
    expected = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, given) and abs(now - int(stamp)) <= SIGNATURE_TOLERANCE_SECONDS
