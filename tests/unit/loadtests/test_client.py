from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from loadtests.client import (
    ATTEMPTS,
    DEADLINE_SECONDS,
    MOST_RETRIES_SAVED,
    RETRIES_PER_SUCCESS,
    Answer,
    Ending,
    Order,
    PaymentClient,
)
from loadtests.history import Outcome, Shown

ORDER = Order("o-1", 1000, "EUR")
TIMEOUT = Answer(None, {}, b"", "TimeoutError")
CALL_SECONDS = 0.01


def payment(status: int, state: str, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, f'{{"id": "pay_1", "status": "{state}", "more": 1}}'.encode())


def problem(status: int, code: str, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, f'{{"type": "urn:lab:{code}", "status": {status}}}'.encode())


@dataclass
class Script:
    """Answers in turn, the last one for ever; a call takes CALL_SECONDS, or 2.5 s if it times out."""

    answers: list[Answer]
    now: float = 100.0
    sleeps: list[float] = field(default_factory=list)
    posts: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)

    def _next(self) -> Answer:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.now += CALL_SECONDS if answer.status else 2.5
        return answer

    def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer:
        self.posts.append((path, body, headers))
        return self._next()

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        del headers
        self.gets.append(path)
        return self._next()

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def pay(*answers: Answer) -> tuple[Script, Ending]:
    script = Script(list(answers))
    client = PaymentClient(script, "key", clock=lambda: script.now, sleep=script.sleep, jitter=random.Random(1))
    return script, client.pay(ORDER)


def test_captured_is_acknowledged() -> None:
    script, ending = pay(payment(201, "captured"))
    assert ending == Ending(Outcome.OK, 1, 201, None, Shown("pay_1", "captured"))
    path, body, headers = script.posts[0]
    assert path == "/v1/payments"
    assert body == '{"amount":1000,"currency":"EUR","source":"tok_o-1","reference":"o-1","capture":"automatic"}'
    assert headers["Authorization"] == "Bearer key"


def test_retries_carry_the_same_key_and_the_same_body() -> None:
    script, ending = pay(TIMEOUT, problem(500, "internal_error"), payment(201, "captured"))
    assert (ending.outcome, ending.attempts) == (Outcome.OK, 3)
    assert len({(body, headers["Idempotency-Key"]) for _, body, headers in script.posts}) == 1


@pytest.mark.parametrize("answer", [TIMEOUT, problem(503, "unavailable"), problem(409, "in_flight", retry_after="1")])
def test_what_is_not_known_is_unknown_after_a_bounded_number_of_attempts(answer: Answer) -> None:
    script, ending = pay(answer)
    assert ending.outcome is Outcome.UNKNOWN
    assert ending.attempts <= ATTEMPTS
    assert ending.error
    assert script.now - 100.0 <= DEADLINE_SECONDS + 2.5


def test_retry_after_is_honoured_and_jitter_comes_on_top() -> None:
    script, _ = pay(problem(429, "too_many", retry_after="2"), payment(201, "captured"))
    assert 2.0 <= script.sleeps[0] <= 3.0


@pytest.mark.parametrize("value", ["soon", "-5"])
def test_a_strange_retry_after_is_ignored(value: str) -> None:
    script, ending = pay(problem(503, "unavailable", retry_after=value), payment(201, "captured"))
    assert ending.outcome is Outcome.OK
    assert 0 <= script.sleeps[0] <= 1.0


def test_the_jitter_is_full_and_grows() -> None:
    pauses = [[s.sleeps[n] for s in (retry(seed) for seed in range(200))] for n in range(3)]
    for number, longest in enumerate((1.0, 2.0, 4.0)):
        assert min(pauses[number]) < 0.1 * longest
        assert 0.9 * longest < max(pauses[number]) <= longest


def retry(seed: int) -> Script:
    script = Script([problem(500, "internal_error")])
    PaymentClient(script, "key", clock=lambda: script.now, sleep=script.sleep, jitter=random.Random(seed)).pay(ORDER)
    return script


def test_retries_stop_when_the_budget_is_spent_and_successes_earn_it_back() -> None:
    script = Script([problem(500, "internal_error")])
    client = PaymentClient(script, "key", clock=lambda: script.now, sleep=script.sleep, jitter=random.Random(1))
    attempts = [client.pay(ORDER).attempts for _ in range(500)]
    assert attempts[0] == ATTEMPTS
    assert attempts[-10:] == [1] * 10
    assert sum(attempts) == 500 + MOST_RETRIES_SAVED
    script.answers[:] = [payment(201, "captured")]
    for _ in range(round(1 / RETRIES_PER_SUCCESS)):
        client.pay(ORDER)
    script.answers[:] = [problem(500, "internal_error")]
    assert [client.pay(ORDER).attempts for _ in range(2)] == [2, 1]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(402, "card_declined"), "urn:lab:card_declined"),
        (problem(501, "not_written_yet"), "urn:lab:not_written_yet"),
        (problem(422, "invalid_request"), "urn:lab:invalid_request"),
        (problem(409, "reference_in_use"), "urn:lab:reference_in_use"),
        (Answer(404, {}, b"<html>"), "HTTP 404"),
        (payment(201, "failed"), "failed"),
    ],
)
def test_a_refusal_is_a_failure_at_once(answer: Answer, error: str) -> None:
    script, ending = pay(answer)
    assert (ending.outcome, ending.error, len(script.posts)) == (Outcome.FAIL, error, 1)


def test_processing_is_polled_at_its_location_until_it_is_captured() -> None:
    script, ending = pay(
        payment(202, "processing", location="/v1/payments/pay_1?x"), payment(200, "processing"), TIMEOUT,
        problem(503, "unavailable"), payment(200, "captured"),
    )  # fmt: skip
    assert ending == Ending(Outcome.OK, 1, 200, None, Shown("pay_1", "captured"))
    assert script.gets == ["/v1/payments/pay_1?x"] * 4
    assert len(script.posts) == 1


def test_processing_that_ends_in_failed_is_a_failure() -> None:
    script, ending = pay(payment(202, "processing"), payment(200, "failed"))
    assert (ending.outcome, ending.error) == (Outcome.FAIL, "failed")
    assert script.gets == ["/v1/payments/pay_1"]


def test_processing_until_the_deadline_is_unknown() -> None:
    script, ending = pay(payment(202, "processing"), payment(200, "processing"))
    assert ending.outcome is Outcome.UNKNOWN
    assert ending.shown == Shown("pay_1", "processing")
    assert script.now - 100.0 <= DEADLINE_SECONDS + 2.5


@pytest.mark.parametrize("answer", [Answer(201, {}, b"{"), Answer(202, {}, b"{}"), payment(201, "authorised")])
def test_an_answer_that_says_nothing_is_unknown(answer: Answer) -> None:
    _, ending = pay(answer)
    assert ending.outcome is Outcome.UNKNOWN
    assert ending.error


def test_the_number_of_attempts_may_be_set() -> None:
    script = Script([problem(503, "bank_unavailable", retry_after="1")])
    once = PaymentClient(
        script, "key", clock=lambda: script.now, sleep=script.sleep, jitter=random.Random(1), attempts=1
    )
    ending = once.pay(ORDER)
    assert (ending.attempts, ending.outcome, ending.error) == (1, Outcome.UNKNOWN, "urn:lab:bank_unavailable")
    assert script.sleeps == []
