from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from loadtests.client import Answer, Ending
from loadtests.history import Outcome, ShownEvent
from loadtests.webhooks_client import ATTEMPTS, DEADLINE_SECONDS, Publisher

KEY = "o1-000001"
TAKEN = Answer(202, {}, json.dumps({"id": "msg_1", "event_id": KEY}).encode())
NOTHING = Answer(None, {}, b"", "TimeoutError")


def problem(status: int, code: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, json.dumps({"type": f"urn:lab:{code}"}).encode())


@dataclass
class Scripted:
    """Gives the answers in order and keeps what was asked."""

    answers: list[Answer]
    posted: list[tuple[str, dict[str, object], Mapping[str, str]]] = field(default_factory=list)

    def post(self, path: str, body: str, headers: Mapping[str, str]) -> Answer:
        self.posted.append((path, json.loads(body), headers))
        return self.answers.pop(0)

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        raise NotImplementedError


@dataclass
class Time:
    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def publish(*answers: Answer, feed: Scripted | None = None, share: float = 0.0) -> tuple[Ending, Scripted, Time]:
    api, time = Scripted(list(answers)), Time()
    publisher = Publisher(api, feed, "a-key", 5, share, random.Random(1), lambda: time.now, time.sleep)
    return publisher.publish(KEY), api, time


def test_a_taken_event_is_acknowledged_with_its_type() -> None:
    ending, api, _ = publish(TAKEN)
    path, body, headers = api.posted[0]
    kind = str(body["event_type"])
    assert ending == Ending(Outcome.OK, 1, 202, None, ShownEvent("msg_1", kind, "api"))
    assert (path, body["event_id"], headers["Authorization"]) == ("/v1/messages", KEY, "Bearer a-key")
    assert kind in {f"lab.group{number}" for number in range(5)}


def test_a_share_of_the_events_goes_to_the_feed_without_the_key() -> None:
    feed = Scripted([TAKEN])
    ending, api, _ = publish(feed=feed, share=1.0)
    assert isinstance(ending.shown, ShownEvent)
    assert ending.shown.way == "kafka"
    assert api.posted == []
    path, body, headers = feed.posted[0]
    assert path == "/v1/events"
    assert sorted(body) == ["event_id", "event_type"]
    assert "Authorization" not in headers


def test_without_a_feed_everything_goes_to_the_api() -> None:
    assert publish(TAKEN, share=1.0)[0].outcome is Outcome.OK


@pytest.mark.parametrize("first", [NOTHING, problem(503, "unavailable"), problem(504, "x"), problem(429, "x")])
def test_what_says_nothing_certain_is_tried_again_with_the_same_event(first: Answer) -> None:
    ending, api, _ = publish(first, TAKEN)
    assert (ending.outcome, ending.attempts) == (Outcome.OK, 2)
    assert api.posted[0][1] == api.posted[1][1]


def test_retry_after_is_honoured_and_bounded() -> None:
    assert publish(problem(429, "x", retry_after="3"), TAKEN)[2].slept[0] == 3
    assert publish(problem(429, "x", retry_after="1000"), TAKEN)[2].slept[0] == 5
    assert publish(problem(429, "x", retry_after="soon"), TAKEN)[2].slept[0] < 1


def test_a_refusal_of_the_first_attempt_is_a_failure() -> None:
    ending, _, _ = publish(problem(422, "invalid_request"))
    assert (ending.outcome, ending.error) == (Outcome.FAIL, "urn:lab:invalid_request")


def test_a_refusal_after_an_attempt_without_answer_is_not_certain() -> None:
    assert publish(NOTHING, problem(409, "event_id_conflict"))[0].outcome is Outcome.UNKNOWN


def test_it_gives_up_after_so_many_attempts_or_seconds() -> None:
    ending, _, _ = publish(*[NOTHING] * 10)
    assert (ending.outcome, ending.attempts, ending.error) == (Outcome.UNKNOWN, ATTEMPTS, "TimeoutError")
    ending, _, time = publish(*[problem(429, "x", retry_after="5")] * 10)
    assert ending.outcome is Outcome.UNKNOWN
    assert time.now <= DEADLINE_SECONDS


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"id":"msg_1","event_id":"another"}'])
def test_a_202_that_is_not_for_our_event_acknowledges_nothing(body: bytes) -> None:
    assert publish(Answer(202, {}, body))[0].outcome is Outcome.UNKNOWN


def test_an_answer_that_is_no_problem_document_is_named_by_its_status() -> None:
    assert publish(Answer(404, {}, b"<html>"))[0].error == "HTTP 404"
