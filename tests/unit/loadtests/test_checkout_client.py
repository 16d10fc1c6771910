"""What the two clients of a checkout send, how often, and what they then know."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from loadtests.checkout_client import (
    OUTCOME_UNKNOWN,
    DeadlineClient,
    NaiveClient,
    conclude,
    order,
)
from loadtests.client import Answer, Ending, RetryBudget
from loadtests.history import Outcome, Shown

PAID = Answer(201, {}, b'{"id": "chk_1", "payment": "pay_1", "status": "paid"}')
TIMEOUT = Answer(None, {}, b"", "timeout")
BUSY = Answer(503, {"retry-after": "0"}, b'{"type": "urn:lab:unavailable"}')


@dataclass
class Server:
    """Answers in order, the last one for ever; each takes `seconds`."""

    answers: list[Answer]
    seconds: float = 0.0
    now: float = 100.0
    sent: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer:
        assert path == "/v1/checkouts"
        self.sent.append((body, headers))
        self.now += self.seconds
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        raise AssertionError(f"nobody asks for {path} with {headers}")

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def naive(server: Server) -> NaiveClient:
    return NaiveClient(server, "key", server.sleep)


def careful(server: Server, tokens: float = 20.0) -> DeadlineClient:
    return DeadlineClient(
        server, "key", 1.0, lambda: server.now, server.sleep, random.Random(1), RetryBudget(left=tokens)
    )


def test_an_order_names_its_card_after_the_reference() -> None:
    assert json.loads(order("r-1", 500)) == {"amount": 500, "currency": "EUR", "source": "tok_r-1", "reference": "r-1"}


def test_the_naive_client_sends_the_same_request_three_times_and_then_knows_nothing() -> None:
    server = Server([TIMEOUT], seconds=1.0)
    ending = naive(server).check_out("r-1", 500)
    assert (ending.outcome, ending.attempts, ending.error) == (Outcome.UNKNOWN, 3, "timeout")
    assert len({body for body, _ in server.sent}) == 1
    assert "Request-Timeout-Ms" not in server.sent[0][1]
    assert server.now == pytest.approx(103.3)


def test_the_naive_client_stops_at_the_first_success() -> None:
    server = Server([TIMEOUT, PAID])
    ending = naive(server).check_out("r-1", 500)
    assert (ending.outcome, ending.attempts, ending.shown) == (Outcome.OK, 2, Shown("pay_1", "paid"))


def test_the_deadline_client_says_how_long_it_waits_and_who_it_is() -> None:
    server = Server([PAID])
    assert careful(server).check_out("r-1", 500).outcome is Outcome.OK
    assert server.sent[0][1] == {
        "Authorization": "Bearer key",
        "Content-Type": "application/json",
        "Idempotency-Key": "r-1",
        "Request-Timeout-Ms": "1000",
    }


def test_the_deadline_client_tries_again_with_what_is_left_where_nothing_was_done() -> None:
    server = Server([BUSY, PAID], seconds=0.3)
    ending = careful(server).check_out("r-1", 500)
    assert (ending.outcome, ending.attempts) == (Outcome.OK, 2)
    assert 400 <= int(server.sent[1][1]["Request-Timeout-Ms"]) <= 700


@pytest.mark.parametrize(
    "answer",
    [
        TIMEOUT,
        Answer(504, {"retry-after": "0"}, b'{"type": "urn:lab:deadline_exceeded"}'),
        Answer(503, {"retry-after": "0"}, f'{{"type": "{OUTCOME_UNKNOWN}"}}'.encode()),
        Answer(202, {}, b'{"id": "chk_1", "payment": "pay_1", "status": "processing"}'),
        Answer(402, {}, b'{"type": "urn:lab:card_declined"}'),
    ],
)
def test_the_deadline_client_leaves_everything_else_alone(answer: Answer) -> None:
    server = Server([answer])
    assert careful(server).check_out("r-1", 500).attempts == 1


def test_a_retry_after_beyond_the_budget_ends_it() -> None:
    server = Server([Answer(503, {"retry-after": "1"}, b"{}")])
    ending = careful(server).check_out("r-1", 500)
    assert (ending.outcome, ending.attempts, server.now) == (Outcome.FAIL, 1, 100.0)


def test_only_a_success_earns_a_part_of_a_retry() -> None:
    for answer, left in ((PAID, 5.2), (TIMEOUT, 5.0), (Answer(504, {}, b"{}"), 5.0)):
        client = careful(Server([answer]), tokens=5.0)
        client.check_out("r-1", 500)
        assert client.retries.left == left


def test_retries_are_at_most_three_attempts_and_come_out_of_the_clients_own_budget() -> None:
    assert careful(Server([BUSY])).check_out("r-1", 500).attempts == 3
    server = Server([BUSY])
    client = careful(server, tokens=1.0)
    assert [client.check_out(f"r-{n}", 500).attempts for n in range(3)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (TIMEOUT, Outcome.UNKNOWN, "timeout"),
        (PAID, Outcome.OK, None),
        (Answer(200, {}, b'{"id": "chk_1", "status": "processing"}'), Outcome.UNKNOWN, "state processing"),
        (Answer(201, {}, b"<html>"), Outcome.UNKNOWN, "the answer is not a checkout"),
        (Answer(201, {}, b"\xff"), Outcome.UNKNOWN, "the answer is not a checkout"),
        (Answer(402, {}, b'{"type": "urn:lab:card_declined"}'), Outcome.FAIL, "urn:lab:card_declined"),
        (Answer(409, {}, b'{"type": "urn:lab:request_in_flight"}'), Outcome.UNKNOWN, "urn:lab:request_in_flight"),
        (Answer(409, {}, b'{"type": "urn:lab:reference_in_use"}'), Outcome.FAIL, "urn:lab:reference_in_use"),
        (Answer(422, {}, b"oops"), Outcome.FAIL, "HTTP 422"),
        (BUSY, Outcome.FAIL, "urn:lab:unavailable"),
        (Answer(503, {}, f'{{"type": "{OUTCOME_UNKNOWN}"}}'.encode()), Outcome.UNKNOWN, OUTCOME_UNKNOWN),
        (Answer(504, {}, b"{}"), Outcome.UNKNOWN, "about:blank"),
        (Answer(500, {}, b""), Outcome.UNKNOWN, "HTTP 500"),
        (Answer(502, {}, b""), Outcome.UNKNOWN, "HTTP 502"),
    ],
)
def test_what_an_answer_lets_the_client_know(answer: Answer, outcome: Outcome, error: str | None) -> None:
    ending = Ending(Outcome.UNKNOWN)
    conclude(answer, ending)
    assert (ending.outcome, ending.error, ending.status) == (outcome, error, answer.status)
