"""Two clients of a checkout: one that retries as most people would write it, and one that has a deadline and says so."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from loadtests.client import Answer, Ending, Http, RetryBudget
from loadtests.history import Outcome, Shown

PATH = "/v1/checkouts"
NAIVE_PAUSES = (0.1, 0.2)
NAIVE_TIMEOUT_SECONDS = 1.0
BACKOFF_SECONDS = 0.1
ATTEMPTS = 3
PAID = "paid"
OUTCOME_UNKNOWN = "urn:lab:outcome_unknown"
OPEN = frozenset({OUTCOME_UNKNOWN, "urn:lab:request_in_flight"})


class _Checkout(msgspec.Struct, frozen=True):
    id: str
    status: str
    payment: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"


def order(key: str, amount: int) -> str:
    """The request's JSON. `key` is the merchant's reference."""
    return msgspec.json.encode({"amount": amount, "currency": "EUR", "source": f"tok_{key}", "reference": key}).decode()


@dataclass(frozen=True, slots=True)
class NaiveClient:
    """Three attempts. `http` gives up each after NAIVE_TIMEOUT_SECONDS; nobody else is told so."""

    http: Http
    api_key: str
    sleep: Callable[[float], None]

    def check_out(self, key: str, amount: int) -> Ending:
        """Blocks until there is an answer or three attempts have failed."""
        ending = Ending(Outcome.UNKNOWN)
        for pause in (*NAIVE_PAUSES, None):
            answer = self.http.post(PATH, order(key, amount), _headers(self.api_key, key))
            ending.attempts += 1
            conclude(answer, ending)
            if ending.outcome is Outcome.OK or pause is None:
                break
            self.sleep(pause)
        return ending


@dataclass(frozen=True, slots=True)
class DeadlineClient:
    """One budget for the whole operation, sent along as `Request-Timeout-Ms`; retries only what says that nothing was done.

    A retry needs a token of the client's own budget and time left after `Retry-After`. It would wait longer than the
    budget (that is the timeout of `http`), so the latency that it records is the server's doing.
    """

    http: Http
    api_key: str
    budget_seconds: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: random.Random
    retries: RetryBudget = field(default_factory=lambda: RetryBudget(left=20.0))

    def check_out(self, key: str, amount: int) -> Ending:
        """Blocks until an answer has come that settles it, or nothing more fits into the budget."""
        deadline = self.clock() + self.budget_seconds
        ending = Ending(Outcome.UNKNOWN)
        while True:
            left_ms = round((deadline - self.clock()) * 1000)
            headers = _headers(self.api_key, key) | {"Request-Timeout-Ms": str(left_ms)}
            answer = self.http.post(PATH, order(key, amount), headers)
            ending.attempts += 1
            conclude(answer, ending)
            if ending.outcome is Outcome.OK:
                self.retries.earn()
            if answer.status not in (429, 503) or ending.outcome is not Outcome.FAIL:
                return ending
            pause = _retry_after(answer) + self.jitter.uniform(0, BACKOFF_SECONDS * 2**ending.attempts)
            if ending.attempts >= ATTEMPTS or self.clock() + pause >= deadline or not self.retries.take():
                return ending
            self.sleep(pause)


def conclude(answer: Answer, ending: Ending) -> None:
    """What the client knows after this answer. 4xx and 503 say that nothing was charged; no answer, 202 and 504 do not.

    Nor do the types of OPEN: the payment may be on its way.
    """
    ending.status, ending.error, ending.shown = answer.status, answer.error, None
    ending.outcome = Outcome.UNKNOWN
    if answer.status is None:
        return
    if answer.status >= 400:
        ending.error = _problem_type(answer)
        if (answer.status < 500 or answer.status == 503) and ending.error not in OPEN:
            ending.outcome = Outcome.FAIL
        return
    try:
        shown = msgspec.json.decode(answer.body, type=_Checkout)
    except (msgspec.DecodeError, UnicodeDecodeError):
        ending.error = "the answer is not a checkout"
        return
    ending.shown = Shown(shown.payment or "", shown.status)
    ending.error = None
    if shown.status == PAID:
        ending.outcome = Outcome.OK
    else:
        ending.error = f"state {shown.status}"


def _headers(api_key: str, key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}", "Idempotency-Key": key, "Content-Type": "application/json"}


def _retry_after(answer: Answer) -> float:
    text = answer.header("retry-after") or ""
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _problem_type(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Problem).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {answer.status}"
