"""A client that creates scheduled jobs: intervals of a few seconds against the simulated target.

Every fourth job calls the target that only dedups and every fourth the one that only fences; the rest call the one that
does both. A job of the first kind skips instants that it has missed, so a deposed leader's late call for one is a run
that the target has never seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from loadtests.client import Answer, Ending, Http
from loadtests.history import Outcome, ShownJob

PATH = "/v1/jobs"
ATTEMPTS = 3
LONGEST_RETRY_AFTER_SECONDS = 5.0
TARGETS = ("both", "dedup-only", "both", "fencing-only")
DEADLINES = {"skip": 1, "all": 60, "once": 60}
"""Seconds after an instant within which its run still makes sense."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is ordered. `key` is its name."""

    key: str
    every_seconds: int
    target: str
    misfire: str

    @classmethod
    def drawn(cls, key: str, every_seconds: int) -> Job:
        """Target and misfire policy follow from the number at the end of the key."""
        number = int(key.rpartition("-")[2])
        target = TARGETS[number % len(TARGETS)]
        kept = "once" if number % 8 == 2 else "all"
        return cls(f"{key}-{target}", every_seconds, target, "skip" if target == "dedup-only" else kept)

    def body(self, target_url: str) -> str:
        """The request's JSON."""
        path = "/v1/effects" + ("" if self.target == "both" else f"/{self.target}")
        order = {
            "name": self.key,
            "schedule": {"every_seconds": self.every_seconds},
            "target": {"http": {"url": target_url.rstrip("/") + path}},
            "misfire": {"policy": self.misfire, "deadline_seconds": DEADLINES[self.misfire]},
        }
        return msgspec.json.encode(order).decode()


class _Created(msgspec.Struct, frozen=True):
    id: str
    next_at: datetime


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"


@dataclass(frozen=True, slots=True)
class JobClient:
    """`create` blocks until the client knows. It repeats only what says that nothing was done (429 and 503)."""

    http: Http
    api_key: str
    target_url: str
    intervals: random.Random
    sleep: Callable[[float], None]

    def create(self, key: str) -> Ending:
        """Order the job of this key."""
        job = Job.drawn(key, self.intervals.choice((2, 3, 4)))
        headers = {
            "Authorization": f"Bearer {self.api_key}",
            "Content-Type": "application/json",
            "Idempotency-Key": job.key,
        }
        ending = Ending(Outcome.UNKNOWN)
        while True:
            answer = self.http.post(PATH, job.body(self.target_url), headers)
            ending.attempts += 1
            ending.status, ending.error = answer.status, answer.error
            if answer.status not in (429, 503) or ending.attempts >= ATTEMPTS:
                return _concluded(answer, job, ending)
            self.sleep(_retry_after(answer))


def _retry_after(answer: Answer) -> float:
    try:
        return min(max(float(answer.header("retry-after") or 0.5), 0.1), LONGEST_RETRY_AFTER_SECONDS)
    except ValueError:
        return 0.5


def _concluded(answer: Answer, job: Job, ending: Ending) -> Ending:
    if answer.status is None:
        return ending
    if answer.status != 201:
        told = answer.status < 500 or answer.status == 503
        ending.outcome, ending.error = Outcome.FAIL if told else Outcome.UNKNOWN, _problem_type(answer)
        return ending
    try:
        created = msgspec.json.decode(answer.body, type=_Created)
    except (msgspec.DecodeError, UnicodeDecodeError):
        ending.error = "201 without a job"
        return ending
    ending.outcome = Outcome.OK
    anchor = created.next_at - timedelta(seconds=job.every_seconds)
    ending.shown = ShownJob(created.id, anchor.isoformat(), str(job.every_seconds), job.misfire, job.target)
    return ending


def _problem_type(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Problem).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {answer.status}"
