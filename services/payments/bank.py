"""The bank: calls with a deadline, and its errors mapped to done, refused or unknown. Nothing else knows its API."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import ssl
from datetime import date
from http import HTTPStatus
from time import monotonic, perf_counter
from typing import Self

import aiohttp
import msgspec

from services.kit import tracing
from services.patterns.breaker import Breaker, Rule
from services.payments.domain import Done, Operation, OperationKind, Outcome, Payment, Refused, Unknown
from services.payments.metrics import BANK_CALLS, BANK_UNKNOWN, BREAKER_STATE

CONNECTIONS = 512
SIGNATURE_TOLERANCE_SECONDS = 300

BREAKER = Rule(window_seconds=5.0, minimum_calls=20, failure_share=0.5, open_seconds=1.0, probes=3)
"""While it is open a client gets its 202 at once instead of after the timeout, and the resolver does not hammer the bank."""
SICK = frozenset({"timeout", "not_connected", "connection_lost", "server_error"})
"""What counts as the bank's failure; a rate limit or *not found* is an answer of a healthy bank."""

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


class _CancelAnswer(msgspec.Struct):
    status: str
    operation: _Answer | None = None


class _ProblemAnswer(msgspec.Struct):
    type: str = ""


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BankUnavailable(Exception):
    """A file could not be fetched; the message is one sentence."""


class Bank:
    """One keep-alive session. Use as an async context manager."""

    def __init__(self, url: str, api_key: str, *, timeout: float, rule: Rule = BREAKER) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None
        self._breaker = Breaker(rule, monotonic)
        BREAKER_STATE.set_function(lambda: self._breaker.state)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ttl_dns_cache=30),
            trust_env=False,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def execute(self, payment: Payment, operation: Operation) -> Outcome:
        """Send it under its reference, which makes it safe to send as often as needed."""
        reference = operation.bank_reference
        body: msgspec.Struct
        match operation.kind:
            case OperationKind.AUTHORISE:
                path = "/v1/charges"
                body = _Charge(reference, payment.source, operation.amount, payment.currency, payment.automatic_capture)
            case OperationKind.CAPTURE:
                path, body = f"/v1/charges/{payment.charge_id}/capture", _Amount(reference, operation.amount)
            case OperationKind.VOID:
                path, body = f"/v1/charges/{payment.charge_id}/void", _Void(reference)
            case OperationKind.REFUND:
                path, body = f"/v1/charges/{payment.charge_id}/refunds", _Amount(reference, operation.amount)
        return await self._call(operation.kind.value, "POST", path, msgspec.json.encode(body))

    async def ask(self, operation: Operation) -> Outcome:
        """What became of it. *Not found* comes back as Unknown: the call may still be on its way."""
        return await self._call("ask", "GET", f"/v1/operations/{operation.bank_reference}", None)

    async def cancel(self, operation: Operation) -> Outcome:
        """Make sure that it is never executed, or learn that it was. A cancelled one is Refused(CANCELLED)."""
        return await self._call("cancel", "POST", f"/v1/operations/{operation.bank_reference}/cancel", b"{}")

    async def settlement(self, day: date) -> bytes:
        """That day's settlement file. Raises BankUnavailable."""
        assert self._session is not None
        try:
            async with self._session.get(
                f"{self._url}/v1/settlements/{day}.csv",
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=60),
                allow_redirects=False,
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise BankUnavailable(f"The bank answered {response.status} when asked for its settlement file.")
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
            raise BankUnavailable(f"The settlement file could not be fetched ({type(error).__name__}).") from None

    async def _call(self, name: str, method: str, path: str, body: bytes | None) -> Outcome:
        permit = self._breaker.acquire()
        if permit is None:
            BANK_UNKNOWN.labels("breaker_open").inc()
            return Unknown("breaker_open")
        healthy: bool | None = None
        started = perf_counter()
        try:
            with tracing.span(f"bank {name}", "client", attributes={"http.request.method": method}):
                outcome = await self._send(method, path, body, cancelling=name == "cancel")
            healthy = not (isinstance(outcome, Unknown) and outcome.reason in SICK)
        finally:
            self._breaker.release(permit, healthy)
        BANK_CALLS.labels(name, type(outcome).__name__.lower()).observe(perf_counter() - started)
        if isinstance(outcome, Unknown):
            BANK_UNKNOWN.labels(outcome.reason).inc()
        return outcome

    async def _send(self, method: str, path: str, body: bytes | None, *, cancelling: bool) -> Outcome:
        assert self._session is not None
        headers = self._headers
        if traceparent := tracing.current_traceparent():
            headers = headers | {"traceparent": traceparent}
        try:
            async with self._session.request(
                method, self._url + path, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = await response.read()
                return interpret(
                    response.status, answer, response.headers.get("Retry-After"), method=method, cancelling=cancelling
                )
        except (TimeoutError, asyncio.TimeoutError):  # noqa: UP041  # aiohttp's own derives from both
            return Unknown("timeout")
        except aiohttp.ClientConnectorError:
            return Unknown("not_connected")
        except (aiohttp.ClientError, OSError):
            return Unknown("connection_lost")


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
            return Done(answer.id)
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
