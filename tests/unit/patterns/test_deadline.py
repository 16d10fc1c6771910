from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.deadline import (
    WIRE_MARGIN_SECONDS,
    Budget,
    Deadline,
    DeadlineExceeded,
    DeadlineMalformed,
    Handling,
    MessageKind,
    handling,
    read_expiry,
    received,
)

BUDGET = Budget(default=2.0, maximum=10.0)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_deadline_runs_down_and_stays_at_zero() -> None:
    time = Time()
    deadline = Deadline.after(2.0, time)
    assert deadline.remaining() == 2.0
    time.now += 1.5
    assert deadline.remaining() == 0.5
    assert not deadline.over
    time.now += 60
    assert deadline.remaining() == 0.0
    assert deadline.over


def test_without_a_header_the_default_of_the_service_holds() -> None:
    assert received([], BUDGET, Time()).remaining() == 2.0


@pytest.mark.parametrize(("text", "seconds"), [("1", 0.001), ("1500", 1.5), ("0001500", 1.5), ("10000", 10.0)])
def test_a_whole_number_of_milliseconds_is_the_deadline(text: str, seconds: float) -> None:
    assert received([text], BUDGET, Time()).remaining() == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["10001", "9" * 15, "9" * 16, "9" * 5000])
def test_a_huge_one_is_shortened_to_the_maximum(text: str) -> None:
    assert received([text], BUDGET, Time()).remaining() == 10.0


@pytest.mark.parametrize("text", ["0", "000", "-0", "-1", "-5000", "-" + "9" * 5000])
def test_zero_or_less_is_over_at_once(text: str) -> None:
    with pytest.raises(DeadlineExceeded):
        received([text], BUDGET, Time())


@pytest.mark.parametrize("text", ["", " ", "1.5", "+5", "1e3", "5s", "1,000", "0x10", "NaN", "١٢٣", "--5", "5 5", "1_000"])  # fmt: skip
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(DeadlineMalformed):
        received([text], BUDGET, Time())


def test_two_headers_are_refused_even_if_they_agree() -> None:
    with pytest.raises(DeadlineMalformed):
        received(["100", "100"], BUDGET, Time())


@given(st.text(max_size=30))
def test_any_text_is_a_deadline_within_the_maximum_or_a_refusal(text: str) -> None:
    time = Time()
    with suppress(DeadlineExceeded, DeadlineMalformed):
        assert 0 < received([text], BUDGET, time).remaining() <= 10.0 + 1e-6


@given(st.lists(st.floats(min_value=0, max_value=0.5), max_size=8), st.integers(min_value=1, max_value=5000))
def test_from_hop_to_hop_the_sum_of_what_passed_is_taken_off(spent: list[float], milliseconds: int) -> None:
    """Each hop has a clock of its own, and none ends after the first."""
    ends_in = milliseconds / 1000
    passed = 0.0
    text = str(milliseconds)
    for seconds in spent:
        time = Time()
        time.now = passed * 7 + 3
        hop = received([text], BUDGET, time)
        assert passed + hop.remaining() <= ends_in + 1e-6
        time.now += seconds
        passed += seconds
        try:
            text = hop.header()
        except DeadlineExceeded:
            assert ends_in - passed < WIRE_MARGIN_SECONDS * (len(spent) + 1) + 0.001 * (len(spent) + 1)
            return


def test_the_header_leaves_a_margin_for_the_wire_and_nothing_is_sent_without_time() -> None:
    time = Time()
    deadline = Deadline.after(1.0, time)
    assert deadline.header(margin=0.02) == "980"
    time.now += 0.9795
    with pytest.raises(DeadlineExceeded):
        deadline.header(margin=0.02)


def test_own_work_after_a_call_can_be_kept_back() -> None:
    time = Time()
    assert Deadline.after(2.0, time).earlier(0.5).remaining() == 1.5
    assert Deadline.after(0.3, time).earlier(0.5).over


def test_a_timeout_is_what_is_left_at_most() -> None:
    deadline = Deadline.after(2.0, Time())
    assert deadline.within(5.0) == 2.0
    assert deadline.within(0.5) == 0.5


def test_on_kafka_the_deadline_is_an_instant() -> None:
    assert Deadline.after(2.0, Time()).expiry(NOW) == NOW + timedelta(seconds=2)


def test_a_command_is_dropped_once_its_time_is_over() -> None:
    at = NOW.isoformat()
    assert handling(MessageKind.COMMAND, at, NOW - timedelta(milliseconds=1)) is Handling.PROCESS
    assert handling(MessageKind.COMMAND, at, NOW) is Handling.DROP
    assert handling(MessageKind.COMMAND, None, NOW) is Handling.PROCESS


@pytest.mark.parametrize("expirytime", [NOW.isoformat(), "1990-01-01T00:00:00Z", "garbage", None])
def test_a_fact_never_expires_whatever_its_producer_wrote(expirytime: str | None) -> None:
    assert handling(MessageKind.FACT, expirytime, NOW) is Handling.PROCESS


@pytest.mark.parametrize("text", ["", "soon", "2026-11-22", "2026-11-22T12:00:00", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1700000000"])  # fmt: skip
def test_an_expirytime_that_is_none_makes_a_command_poison(text: str) -> None:
    with pytest.raises(DeadlineMalformed):
        handling(MessageKind.COMMAND, text, NOW)


def test_an_expirytime_of_another_zone_is_the_same_instant() -> None:
    assert read_expiry("2026-11-22T13:00:00+01:00") == NOW == read_expiry("2026-11-22T12:00:00Z")


@pytest.mark.parametrize(("default", "maximum"), [(0, 1), (-1, 1), (2, 1)])
def test_a_budget_that_grants_nothing_is_refused(default: float, maximum: float) -> None:
    with pytest.raises(ValueError, match="0 < default"):
        Budget(default, maximum)
