import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.backoff import Backoff
from services.patterns.deadline import Deadline
from services.patterns.retry import RetryBudget, RetryPolicy, Safety, Stop, next_try, retry_after_seconds

POLICY = RetryPolicy(attempts=3, backoff=Backoff(base=0.1, cap=1.0))
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def full(time: Time) -> RetryBudget:
    return RetryBudget(time, initial=10.0, most=10.0)


def decide(
    safety: Safety = Safety.IDEMPOTENT,
    attempt: int = 0,
    *,
    time: Time | None = None,
    budget: RetryBudget | None = None,
    seconds: float = 60.0,
    retry_after: float | None = None,
    worth: float = 0.0,
) -> float | Stop:
    time = time or Time()
    return next_try(
        POLICY,
        safety,
        attempt,
        budget=budget or full(time),
        deadline=Deadline.after(seconds, time),
        chance=random.Random(7),
        retry_after=retry_after,
        worth_seconds=worth,
    )


@pytest.mark.parametrize("safety", [Safety.IDEMPOTENT, Safety.UNKNOWN_SAFE])
def test_what_is_safe_is_tried_again_with_full_jitter(safety: Safety) -> None:
    delay = decide(safety)
    assert isinstance(delay, float)
    assert 0 <= delay <= 0.1


def test_what_may_have_a_second_effect_never_is() -> None:
    assert decide(Safety.ONCE) is Stop.UNSAFE


def test_attempts_are_bounded() -> None:
    assert isinstance(decide(attempt=1), float)
    assert decide(attempt=2) is Stop.ATTEMPTS


def test_the_server_s_wish_is_a_floor_with_the_jitter_on_top() -> None:
    delay = decide(retry_after=3.0)
    assert isinstance(delay, float)
    assert 3.0 <= delay <= 3.1


def test_a_wish_that_does_not_fit_the_deadline_is_no_retry_and_costs_no_token() -> None:
    time = Time()
    budget = full(time)
    assert decide(time=time, budget=budget, retry_after=2.0, seconds=2.0) is Stop.DEADLINE
    assert decide(time=time, budget=budget, retry_after=float("inf")) is Stop.DEADLINE
    assert budget.tokens == 10.0


def test_a_retry_that_would_leave_no_time_for_the_try_itself_is_not_made() -> None:
    assert decide(retry_after=1.0, seconds=1.5, worth=0.5) is Stop.DEADLINE


def test_without_a_token_there_is_no_retry() -> None:
    time = Time()
    empty = RetryBudget(time, reserve_per_second=0, initial=0)
    assert decide(time=time, budget=empty) is Stop.BUDGET
    for _ in range(11):
        empty.deposit()
    assert isinstance(decide(time=time, budget=empty), float)
    assert decide(time=time, budget=empty) is Stop.BUDGET


@given(
    st.lists(st.one_of(st.sampled_from(["call", "retry"]), st.floats(min_value=0, max_value=5)), max_size=300),
    st.floats(min_value=0, max_value=1),
    st.floats(min_value=0, max_value=2),
)
def test_retries_stay_within_the_share_of_calls_and_the_reserve_of_time(
    steps: list[str | float], ratio: float, reserve: float
) -> None:
    time = Time()
    budget = RetryBudget(time, ratio=ratio, reserve_per_second=reserve, initial=2.0, most=20.0)
    calls = retries = 0
    for step in steps:
        if step == "call":
            budget.deposit()
            calls += 1
        elif step == "retry":
            retries += budget.withdraw()
        else:
            assert isinstance(step, float)
            time.now += step
        assert retries <= 2.0 + ratio * calls + reserve * (time.now - 100.0) + 1e-6
        assert 0 <= budget.tokens <= 20.0


def test_when_everything_fails_a_client_of_many_call_sites_adds_a_tenth() -> None:
    """The point of the budget: 3 attempts each would be 3 times the load."""
    time = Time()
    budget = RetryBudget(time, ratio=0.1, reserve_per_second=0.0, initial=0.0)
    sent = 0
    for _ in range(1000):
        budget.deposit()
        sent += 1
        for attempt in range(2):
            if not isinstance(decide(attempt=attempt, time=time, budget=budget), float):
                break
            sent += 1
    assert 1000 < sent <= 1100


def test_quiet_times_save_up_no_more_than_the_bound() -> None:
    time = Time()
    budget = RetryBudget(time, reserve_per_second=1.0, initial=0.0, most=5.0)
    time.now += 3600
    assert sum(budget.withdraw() for _ in range(100)) == 5


@pytest.mark.parametrize(
    "wrong", [{"ratio": -0.1}, {"ratio": 1.1}, {"reserve_per_second": -1.0}, {"initial": 2.0, "most": 1.0}]
)
def test_a_budget_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="retry budget"):
        RetryBudget(Time(), **wrong)


def test_there_is_at_least_one_attempt() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RetryPolicy(attempts=0, backoff=Backoff(0.1, 1.0))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("99999999999999999999", float("inf")),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30.0),
        ("Sun Nov 22 12:00:30 2026", 30.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Sun, 99 Nov 2026 12:00:30 GMT", None),
        ("Sun, 22 Nov 99999999999 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_garbage_is_none(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_is_an_exception(value: str) -> None:
    found = retry_after_seconds(value, NOW)
    assert found is None or found >= 0
