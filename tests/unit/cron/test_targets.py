"""What a target is told, and what its answer means."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.cron.domain import Delivered, HttpTarget, Outcome, RunState, Undelivered
from services.cron.scheduler import RETRY, decide
from services.cron.settings import CronSettings, refuse_exceptions
from services.cron.store.schedules import Claim
from services.cron.targets import Effect, outcome_of, policy_of
from services.kit import kafka
from services.kit.settings import ProcessSettings
from services.patterns.deadline import Handling, MessageKind, handling

INSTANT = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
EFFECT = Effect(UUID(int=1), UUID(int=2), INSTANT, epoch=7, attempt=2, timeout_seconds=1.5)


def claim(attempt: int, retries: int) -> Claim:
    return Claim(
        UUID(int=1), UUID(int=2), "schedule", INSTANT, attempt, 0.0, "job", retries, 15, HttpTarget("http://x", "{}")
    )


def test_an_http_call_carries_run_instant_and_epoch() -> None:
    headers = EFFECT.http_headers()
    assert headers["Cron-Run-Id"] == headers["Idempotency-Key"] == "run_00000000000000000000000001"
    assert headers["Cron-Job-Id"] == "job_00000000000000000000000002"
    assert headers["Cron-Scheduled-For"] == "2026-03-29T01:00:00Z"
    assert (headers["Cron-Epoch"], headers["Cron-Attempt"], headers["Request-Timeout-Ms"]) == ("7", "2", "1500")


def test_a_kafka_message_carries_the_same_as_cloudevents() -> None:
    headers = EFFECT.kafka_headers()
    assert kafka.header(headers, "ce_id") == "run_00000000000000000000000001"
    assert kafka.header(headers, "ce_subject") == "job_00000000000000000000000002"
    assert kafka.header(headers, "ce_cronscheduledfor") == "2026-03-29T01:00:00Z"
    assert kafka.header(headers, "ce_cronepoch") == "7"
    assert kafka.header(headers, "ce_expirytime") is None


def test_a_kafka_message_says_until_when_its_command_is_worth_anything() -> None:
    headers = replace(EFFECT, expires_at=INSTANT + timedelta(minutes=5)).kafka_headers()
    expiry = kafka.header(headers, "ce_expirytime")
    assert expiry == "2026-03-29T01:05:00+00:00"
    assert handling(MessageKind.COMMAND, expiry, INSTANT) is Handling.PROCESS
    assert handling(MessageKind.COMMAND, expiry, INSTANT + timedelta(minutes=6)) is Handling.DROP


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Delivered(200)),
        (204, Delivered(204)),
        (301, Undelivered("redirected", again=False, status=301)),
        (304, Undelivered("redirected", again=False, status=304)),
        (400, Undelivered("refused", again=False, status=400)),
        (408, Undelivered("target_error", again=True, status=408)),
        (409, Undelivered("refused", again=False, status=409)),
        (410, Undelivered("refused", again=False, status=410)),
        (425, Undelivered("target_error", again=True, status=425)),
        (429, Undelivered("target_error", again=True, status=429)),
        (500, Undelivered("target_error", again=True, status=500)),
        (599, Undelivered("target_error", again=True, status=599)),
        (101, Undelivered("refused", again=False, status=101)),
    ],
)
def test_an_answers_status_says_what_became_of_the_call(status: int, expected: Outcome) -> None:
    assert outcome_of(status) == expected


@pytest.mark.parametrize(
    ("attempt", "retries", "outcome", "state"),
    [
        (1, 0, Delivered(200), RunState.FIRED),
        (1, 0, Undelivered("timeout", again=True), RunState.FAILED),
        (1, 1, Undelivered("timeout", again=True), RunState.WAITING),
        (2, 1, Undelivered("timeout", again=True), RunState.FAILED),
        (1, 9, Undelivered("refused", again=False), RunState.FAILED),
    ],
)
def test_a_run_is_tried_again_as_often_as_its_job_says(
    attempt: int, retries: int, outcome: Outcome, state: RunState
) -> None:
    end = decide(claim(attempt, retries), outcome, random.Random(1))
    assert end.state is state
    assert 0 <= end.delay <= RETRY.ceiling(attempt - 1)


def settings(**changes: object) -> CronSettings:
    return CronSettings(database_url="postgresql://x", kafka_bootstrap="x:1", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"allow_loopback": True}, {"trusted_hosts": "sim-target"}])
def test_targets_inside_our_network_are_for_the_lab_only(changes: dict[str, object]) -> None:
    with pytest.raises(SystemExit, match="lab profile only"):
        refuse_exceptions(ProcessSettings(http_port=1), settings(**changes))
    with pytest.raises(ValueError, match="lab profile only"):
        policy_of(settings(**changes), lab_profile=False)
    refuse_exceptions(ProcessSettings(http_port=1, lab_profile=True), settings(**changes))


def test_a_lease_in_redis_needs_its_address() -> None:
    with pytest.raises(SystemExit, match="CRON_REDIS_URL"):
        refuse_exceptions(ProcessSettings(http_port=1), settings(lease_store="redis"))


@pytest.mark.parametrize(
    "changes",
    [{"lease_seconds": 0}, {"node": "a b"}, {"concurrency": 0}, {"lease_store": "zookeeper"}, {"poll_seconds": -1}],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        settings(**changes)
