"""A careful client of the payments API: the same key on every retry, full jitter, Retry-After, a deadline, a retry budget.

It knows three outcomes. A timeout is not a failure: the payment may have happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from loadtests.history import AnyShown, Outcome, Shown

ATTEMPTS = 6
DEADLINE_SECONDS = 15.0
BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 4.0
LONGEST_RETRY_AFTER_SECONDS = 5.0
MOST_RETRIES_SAVED = 400.0
RETRIES_PER_SUCCESS = 0.2
FIRST_POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 1.0

FAILED_STATES = frozenset({"failed", "voided", "expired"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, or none: then `status` is None and `error` says why."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes
    error: str | None = None

    def header(self, name: str) -> str | None:
        """Names are compared in lower case."""
        return self.headers.get(name)


class Http(Protocol):
    """The two calls that this client makes; a timeout or a broken connection is an Answer too."""

    def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer: ...

    def get(self, path: str, headers: Mapping[str, str]) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be paid. `key` is the merchant's reference and the idempotency key at once; `about` goes along as metadata."""

    key: str
    amount: int
    currency: str
    about: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> str:
        """The request's JSON."""
        wanted: dict[str, object] = {
            "amount": self.amount,
            "currency": self.currency,
            "source": f"tok_{self.key}",
            "reference": self.key,
            "capture": "automatic",
        }
        if self.about:
            wanted["metadata"] = self.about
        return msgspec.json.encode(wanted).decode()


@dataclass(slots=True)
class RetryBudget:
    """All operations of a merchant share it: a success earns a fifth of a retry, so retries alone cannot hold a system down.

    Without it five attempts for each payment keep an overloaded service overloaded after the fault is gone. Sources: Site
    Reliability Engineering (2016), chapter 21; the retry quota of the AWS SDKs' standard mode.
    """

    left: float = MOST_RETRIES_SAVED

    def take(self) -> bool:
        """One retry, if there is one left."""
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def earn(self) -> None:
        """For a success."""
        self.left = min(MOST_RETRIES_SAVED, self.left + RETRIES_PER_SUCCESS)


@dataclass(slots=True)
class Ending:
    """How an operation ended, as far as the client can know. `kind`: what it was, where a load has several."""

    outcome: Outcome
    attempts: int = 0
    status: int | None = None
    error: str | None = None
    shown: AnyShown | None = None
    kind: str | None = None


class _Payment(msgspec.Struct, frozen=True):
    id: str
    status: str


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"


class PaymentClient:
    """`pay` blocks until the client knows or gives up. Clock, sleep and randomness are arguments."""

    def __init__(
        self,
        http: Http,
        api_key: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        jitter: random.Random,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._http = http
        self._attempts = attempts
        self._authorization = {"Authorization": f"Bearer {api_key}"}
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._budget = RetryBudget()

    def pay(self, order: Order) -> Ending:
        """Post until there is an answer that means something, then poll while it says `processing`."""
        deadline = self._clock() + DEADLINE_SECONDS
        ending = Ending(Outcome.UNKNOWN)
        headers = self._authorization | {"Idempotency-Key": order.key, "Content-Type": "application/json"}
        body = order.body()
        while True:
            answer = self._http.post("/v1/payments", body, headers)
            ending.attempts += 1
            ending.status, ending.error = answer.status, answer.error
            if answer.status == 202:
                self._budget.earn()
                return self._poll(answer, ending, deadline)
            if not _worth_retrying(answer):
                self._budget.earn()
                return _concluded(answer, ending)
            pause = self._pause(answer, ending.attempts)
            if ending.attempts >= self._attempts or self._clock() + pause >= deadline or not self._budget.take():
                ending.error = ending.error or _problem_type(answer)
                return ending
            self._sleep(pause)

    def _pause(self, answer: Answer, attempts: int) -> float:
        # Full jitter: Marc Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
        jitter = self._jitter.uniform(0, min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**attempts))
        return _retry_after(answer) + jitter

    def _poll(self, accepted: Answer, ending: Ending, deadline: float) -> Ending:
        ending.shown = _shown(accepted)
        if ending.shown is None:
            ending.error = "202 without a payment"
            return ending
        path = accepted.header("location") or f"/v1/payments/{ending.shown.payment}"
        pause = FIRST_POLL_SECONDS
        while self._clock() + pause < deadline:
            self._sleep(pause * self._jitter.uniform(0.5, 1))
            answer = self._http.get(path, self._authorization)
            seen = _shown(answer)
            if answer.status == 200 and seen is not None and seen.state != "processing":
                ending.status = 200
                return _concluded(answer, ending)
            pause = min(LONGEST_POLL_SECONDS, pause * 1.5)
        ending.error = "still processing at the client's deadline"
        return ending


def _worth_retrying(answer: Answer) -> bool:
    if answer.status == 501:
        return False
    if answer.status is None or answer.status >= 500 or answer.status == 429:
        return True
    # 409 with Retry-After: the first request is still in flight; without: another payment has that reference.
    return answer.status == 409 and answer.header("retry-after") is not None


def _retry_after(answer: Answer) -> float:
    try:
        wanted = float(answer.header("retry-after") or 0)
    except ValueError:
        return 0.0
    return min(max(wanted, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _concluded(answer: Answer, ending: Ending) -> Ending:
    """An answer that will not change: a payment, or a refusal."""
    shown = _shown(answer)
    if answer.status is not None and answer.status >= 400:
        ending.outcome, ending.error = Outcome.FAIL, _problem_type(answer)
    elif shown is None:
        ending.error = "the answer is not a payment"
    else:
        ending.shown = shown
        if shown.state == "captured":
            ending.outcome, ending.error = Outcome.OK, None
        elif shown.state in FAILED_STATES:
            ending.outcome, ending.error = Outcome.FAIL, shown.state
        else:
            ending.error = f"unexpected state {shown.state}"
    return ending


def _shown(answer: Answer) -> Shown | None:
    try:
        payment = msgspec.json.decode(answer.body, type=_Payment)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Shown(payment.id, payment.status)


def _problem_type(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Problem).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {answer.status}"
