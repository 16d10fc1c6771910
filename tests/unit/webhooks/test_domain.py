"""What becomes of a delivery after an attempt."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.webhooks.domain import (
    AttemptOutcome,
    DeadReason,
    DeliveryState,
    Result,
    Schedule,
    judge,
    outcome_of,
)
from services.webhooks.settings import WebhooksSettings

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SCHEDULE = Schedule((0, 5, 300, 1800, 7200, 18_000, 36_000, 36_000))
FAILED = st.sampled_from([AttemptOutcome.TIMED_OUT, AttemptOutcome.UNREACHABLE, AttemptOutcome.BLOCKED])


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_every_2xx_is_a_success(status: int) -> None:
    assert outcome_of(status) is AttemptOutcome.DELIVERED


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503, 599])
def test_everything_else_is_none_and_a_redirect_is_not_followed(status: int) -> None:
    assert outcome_of(status) is AttemptOutcome.REFUSED


@settings(deadline=None)
@given(step=st.integers(0, 6), outcome=FAILED, seed=st.integers())
def test_a_failure_waits_for_the_next_entry_of_the_schedule_give_or_take_the_jitter(
    step: int, outcome: AttemptOutcome, seed: int
) -> None:
    found = judge(Result(outcome), step, SCHEDULE, NOW, random.Random(seed))
    planned = SCHEDULE.delays[step + 1]
    assert found.state is DeliveryState.SCHEDULED
    assert found.delay is not None
    assert 0.8 * planned <= found.delay <= 1.2 * planned


@settings(deadline=None)
@given(outcome=FAILED)
def test_after_the_last_entry_it_is_exhausted(outcome: AttemptOutcome) -> None:
    found = judge(Result(outcome), 7, SCHEDULE, NOW, random.Random(1))
    assert (found.state, found.reason) == (DeliveryState.DEAD, DeadReason.EXHAUSTED)
    assert not found.disable


def test_410_ends_the_delivery_and_switches_the_endpoint_off() -> None:
    found = judge(Result(AttemptOutcome.REFUSED, 410), 0, SCHEDULE, NOW, random.Random(1))
    assert (found.state, found.reason, found.disable) == (DeliveryState.DEAD, DeadReason.GONE, True)


def in_(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("120", 120),
        (in_(120), 120),
        (in_(-60), 0),
        ("0", 0),
        ("999999999999", 3600),
        (in_(1e8), 3600),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_retry_after_is_honoured_up_to_a_bound_and_garbage_is_none(
    status: int, header: str | None, pause: float
) -> None:
    result = Result(AttemptOutcome.REFUSED, status, retry_after=header)
    found = judge(result, 0, SCHEDULE, NOW, random.Random(1))
    assert found.pause == pause
    assert found.delay is not None
    assert found.delay >= max(pause, 4)


def test_other_statuses_may_not_ask_for_a_pause() -> None:
    result = Result(AttemptOutcome.REFUSED, 500, retry_after="3000")
    assert judge(result, 0, SCHEDULE, NOW, random.Random(1)).pause == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.floats(0.001, 10))
def test_a_schedule_gives_as_many_attempts_as_it_has_entries(delays: list[int], factor: float) -> None:
    made = WebhooksSettings(
        database_url="postgresql://x",  # type: ignore[arg-type]  # pydantic makes it a SecretStr
        secrets_key="0123456789abcdef",  # type: ignore[arg-type]
        schedule=",".join(str(each) for each in delays),  # type: ignore[arg-type]
        schedule_factor=factor,
    )
    schedule, attempts = made.retries, 1
    while schedule.after_failure(attempts - 1, random.Random(1)) is not None:
        attempts += 1
    assert attempts == len(delays)
    assert schedule.delays == tuple(each * factor for each in delays)
