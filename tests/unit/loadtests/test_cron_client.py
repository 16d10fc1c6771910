from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from loadtests.client import Answer, Ending
from loadtests.cron_client import Job, JobClient
from loadtests.history import Outcome, ShownJob

FIRST = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
CREATED = Answer(201, {}, json.dumps({"id": "job_1", "next_at": FIRST.isoformat(), "enabled": True}).encode())


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


def create(*answers: Answer, key: str = "o1-000000") -> tuple[Ending, Scripted, list[float]]:
    http, slept = Scripted(list(answers)), list[float]()
    client = JobClient(http, "a-key", "http://target:18840/", random.Random(1), slept.append)
    return client.create(key), http, slept


def test_a_created_job_is_acknowledged_with_its_id_and_the_anchor_of_its_first_instant() -> None:
    ending, http, _ = create(CREATED)
    schedule = http.posted[0][1]["schedule"]
    assert isinstance(schedule, dict)
    every = schedule["every_seconds"]
    assert every in (2, 3, 4)
    anchor = (FIRST - timedelta(seconds=every)).isoformat()
    assert ending == Ending(Outcome.OK, 1, 201, None, ShownJob("job_1", anchor, str(every), "all", "both"))


def test_the_order_names_the_job_by_its_key_and_carries_the_tenants_key() -> None:
    _, http, _ = create(CREATED, key="o1-000001")
    path, body, headers = http.posted[0]
    assert (path, body["name"]) == ("/v1/jobs", "o1-000001-dedup-only")
    assert body["target"] == {"http": {"url": "http://target:18840/v1/effects/dedup-only"}}
    assert headers["Authorization"] == "Bearer a-key"
    assert headers["Idempotency-Key"] == "o1-000001-dedup-only"


def test_half_of_the_jobs_call_the_target_that_checks_both() -> None:
    drawn = [Job.drawn(f"o1-{number:06d}", 2) for number in range(8)]
    assert [job.target for job in drawn].count("both") == 4
    assert {job.misfire for job in drawn if job.target == "dedup-only"} == {"skip"}
    assert [job.misfire for job in drawn if job.target == "both"] == ["all", "once", "all", "all"]


def test_what_says_that_nothing_was_done_is_tried_again_after_its_time() -> None:
    ending, http, slept = create(Answer(503, {"retry-after": "2"}, b""), Answer(429, {}, b""), CREATED)
    assert (ending.outcome, ending.attempts, slept) == (Outcome.OK, 3, [2.0, 0.5])
    assert len({headers["Idempotency-Key"] for _, _, headers in http.posted}) == 1


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (Answer(None, {}, b"", "timeout"), Outcome.UNKNOWN, "timeout"),
        (Answer(500, {}, b"{}"), Outcome.UNKNOWN, "about:blank"),
        (Answer(422, {}, b'{"type": "urn:lab:invalid_request"}'), Outcome.FAIL, "urn:lab:invalid_request"),
        (Answer(401, {}, b"\xff"), Outcome.FAIL, "HTTP 401"),
        (Answer(201, {}, b"created"), Outcome.UNKNOWN, "201 without a job"),
    ],
)
def test_only_a_refusal_is_a_failure(answer: Answer, outcome: Outcome, error: str) -> None:
    ending, _, slept = create(answer)
    assert (ending.outcome, ending.error, ending.attempts, slept) == (outcome, error, 1, [])


def test_a_service_that_is_unavailable_three_times_is_a_failure() -> None:
    busy = Answer(503, {"retry-after": "soon"}, b"")
    ending, _, _ = create(busy, busy, busy)
    assert (ending.outcome, ending.attempts) == (Outcome.FAIL, 3)
