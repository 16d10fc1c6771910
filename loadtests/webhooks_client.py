"""A careful publisher of events: the same event id on every retry, full jitter, a deadline.

Some events go through Kafka, by a feed; whoever delivers them gets the same id and type by either way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from loadtests.client import Answer, Ending, Http
from loadtests.history import Outcome, ShownEvent

API_PATH = "/v1/messages"
FEED_PATH = "/v1/events"
ATTEMPTS = 6
DEADLINE_SECONDS = 20.0
BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 2.0
LONGEST_RETRY_AFTER_SECONDS = 5.0
TYPE_PREFIX = "lab.group"


class _Accepted(msgspec.Struct, frozen=True):
    id: str
    event_id: str


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"


@dataclass(frozen=True, slots=True)
class Event:
    """`key` is the event's id."""

    key: str
    event_type: str

    def message(self) -> str:
        """For the API."""
        payload = {"event_id": self.key, "amount": 100, "currency": "EUR"}
        return msgspec.json.encode({"event_id": self.key, "event_type": self.event_type, "payload": payload}).decode()

    def record(self) -> str:
        """For the feed."""
        return msgspec.json.encode({"event_id": self.key, "event_type": self.event_type}).decode()


@dataclass(frozen=True, slots=True)
class Publisher:
    """`publish` blocks until the client knows or gives up. Without a feed everything goes to the API."""

    api: Http
    feed: Http | None
    api_key: str
    types: int
    feed_share: float
    draw: random.Random
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    skew: float = 0.0

    def publish(self, key: str) -> Ending:
        """Publish the event of this key, of a type that is drawn."""
        event = Event(key, f"{TYPE_PREFIX}{self._drawn_type()}")
        by_feed = self.draw.random() < self.feed_share and self.feed is not None
        ending = Ending(Outcome.UNKNOWN)
        give_up_at = self.clock() + DEADLINE_SECONDS
        while True:
            answer = self._send(event, by_feed=by_feed)
            ending.attempts += 1
            ending.status, ending.error = answer.status, answer.error
            pause = self._pause(answer, ending.attempts)
            if not _worth_retrying(answer) or ending.attempts >= ATTEMPTS or self.clock() + pause > give_up_at:
                return _concluded(answer, event, ending, "kafka" if by_feed else "api")
            self.sleep(pause)

    def _drawn_type(self) -> int:
        """By Zipf's law: type n comes (n + 1) ** skew times more seldom than type 0."""
        if not self.skew:
            return self.draw.randrange(self.types)
        weights = [(number + 1) ** -self.skew for number in range(self.types)]
        return self.draw.choices(range(self.types), weights)[0]

    def _send(self, event: Event, *, by_feed: bool) -> Answer:
        headers = {"Content-Type": "application/json"}
        if by_feed and self.feed is not None:
            return self.feed.post(FEED_PATH, event.record(), headers)
        return self.api.post(API_PATH, event.message(), headers | {"Authorization": f"Bearer {self.api_key}"})

    def _pause(self, answer: Answer, attempts: int) -> float:
        most = min(BACKOFF_SECONDS * 2 ** (attempts - 1), LONGEST_BACKOFF_SECONDS)
        return max(self.draw.uniform(0, most), _retry_after(answer))


def _worth_retrying(answer: Answer) -> bool:
    return answer.status is None or answer.status == 429 or (answer.status >= 500 and answer.status != 501)


def _retry_after(answer: Answer) -> float:
    try:
        return min(max(float(answer.header("retry-after") or 0), 0.0), LONGEST_RETRY_AFTER_SECONDS)
    except ValueError:
        return 0.0


def _concluded(answer: Answer, event: Event, ending: Ending, way: str) -> Ending:
    """Told for certain only by a 202 with our id, or by a refusal of the first attempt: an earlier one may have been taken."""
    if answer.status == 202:
        try:
            accepted = msgspec.json.decode(answer.body, type=_Accepted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            ending.error = "202 without a message"
            return ending
        if accepted.event_id != event.key:
            ending.error = "202 for another event"
            return ending
        ending.outcome, ending.error = Outcome.OK, None
        ending.shown = ShownEvent(accepted.id, event.event_type, way)
        return ending
    if answer.status is not None and ending.attempts == 1 and 400 <= answer.status < 500:
        ending.outcome = Outcome.FAIL
    if answer.status is not None:
        ending.error = _problem_type(answer)
    return ending


def _problem_type(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Problem).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {answer.status}"
