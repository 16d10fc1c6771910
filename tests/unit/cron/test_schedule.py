"""Cron expressions and intervals, above all where the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cron.schedule import (
    IntervalSchedule,
    ScheduleError,
    cron_schedule,
    interval_schedule,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def local(expression: str, begin: str, end: str, zone: str = "Europe/Berlin") -> list[str]:
    """Instants from `begin` (exclusive) to `end` (inclusive), both local, as local time with offset."""
    tz = ZoneInfo(zone)
    first, last = (datetime.fromisoformat(text).replace(tzinfo=tz) for text in (begin, end))
    found: list[str] = []
    for instant in cron_schedule(expression, zone, NOW).after(first.astimezone(UTC)):
        if instant > last.astimezone(UTC):
            return found
        found.append(instant.astimezone(tz).strftime("%d %H:%M %Z"))
    return found


def test_a_fixed_time_inside_the_hour_that_spring_skips_is_due_at_the_first_minute_after_it() -> None:
    assert local("30 2 * * *", "2026-03-27T12:00", "2026-03-30T12:00") == [
        "28 02:30 CET",
        "29 03:00 CEST",
        "30 02:30 CEST",
    ]


def test_a_fixed_time_inside_the_hour_that_comes_twice_is_due_the_first_time_only() -> None:
    assert local("30 2 * * *", "2026-10-24T12:00", "2026-10-26T12:00") == ["25 02:30 CEST", "26 02:30 CET"]


def test_also_when_the_question_is_asked_between_the_two() -> None:
    between = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1).astimezone(UTC)
    found = next(cron_schedule("30 2 * * *", "Europe/Berlin", NOW).after(between))
    assert found == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_an_hourly_job_is_due_23_times_on_the_spring_day_and_25_times_on_the_autumn_day() -> None:
    spring = local("0 * * * *", "2026-03-28T23:59", "2026-03-29T23:59")
    autumn = local("0 * * * *", "2026-10-24T23:59", "2026-10-25T23:59")
    assert (len(spring), len(autumn)) == (23, 25)
    assert spring[1:3] == ["29 01:00 CET", "29 03:00 CEST"]
    assert autumn[2:5] == ["25 02:00 CEST", "25 02:00 CET", "25 03:00 CET"]


def test_two_fixed_times_in_the_skipped_hour_become_one_instant() -> None:
    assert local("0,30 2 * * *", "2026-03-29T00:00", "2026-03-29T12:00") == ["29 03:00 CEST"]


def test_day_of_month_and_day_of_week_are_joined_by_or_unless_one_begins_with_a_star() -> None:
    either = local("0 0 13 * FRI", "2026-02-01T00:00", "2026-02-28T00:00", "UTC")
    both = local("0 0 */1 * FRI", "2026-02-01T00:00", "2026-02-28T00:00", "UTC")
    assert [each[:2] for each in either] == ["06", "13", "20", "27"]
    assert either == both
    assert [each[:2] for each in local("0 0 10 * FRI", "2026-02-01T00:00", "2026-02-20T00:00", "UTC")] == [
        "06",
        "10",
        "13",
        "20",
    ]


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("60 * * * *", "minute"),
        ("x * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day-of-month"),
        ("* * 32 * *", "day-of-month"),
        ("0 0 30 2 *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * FOO *", "month"),
        ("* * * * 8", "day-of-week"),
        ("* * * * MON#6", "day-of-week"),
        ("* * * * *  *", "cron"),
        ("* * * *", "cron"),
        ("", "cron"),
        ("@daily", "cron"),
        ("٣ * * * *", "cron"),
        ("* * * * " + "1," * 100 + "1", "cron"),
    ],
)
def test_a_bad_expression_is_refused_with_the_name_of_its_field(expression: str, field: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        cron_schedule(expression, "UTC", NOW)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "Europe", "../etc/passwd", "/etc/localtime", "europe/berlin", "UTC+1"]
)
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        cron_schedule("* * * * *", zone, NOW)
    assert caught.value.field == "zone"


@given(st.text(alphabet="0123456789*/,-LW#MONFRI ", max_size=30))
@settings(max_examples=500, deadline=None)
def test_garbage_is_either_a_schedule_or_a_schedule_error(text: str) -> None:
    try:
        schedule = cron_schedule(text, "Europe/Berlin", NOW)
    except ScheduleError:
        return
    assert next(schedule.after(NOW)) > NOW


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/7", "0,30", "59"]),
    st.sampled_from(["*", "2", "1-3", "*/5", "0"]),
    st.sampled_from(["*", "29", "L"]),
    st.sampled_from(["*", "3", "10"]),
    st.sampled_from(["*", "SUN", "0-6"]),
)
AROUND_A_CHANGE = st.one_of(
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 30)),  # noqa: DTZ001  # zone is added below
    st.datetimes(datetime(2026, 10, 24), datetime(2026, 10, 26)),  # noqa: DTZ001
).map(lambda naive: naive.replace(tzinfo=UTC))


@given(FIELDS, AROUND_A_CHANGE, st.sampled_from(["Europe/Berlin", "UTC", "Australia/Lord_Howe", "America/New_York"]))
@settings(max_examples=300, deadline=None)
def test_instants_grow_and_asking_again_from_one_gives_the_next(
    fields: tuple[str, ...], begin: datetime, zone: str
) -> None:
    schedule = cron_schedule(" ".join(fields), zone, NOW)
    found = list(islice(schedule.after(begin), 12))
    assert found == sorted(set(found))
    assert all(each > begin and each.tzinfo is UTC and not each.microsecond for each in found)
    step = begin
    for expected in found:
        step = next(schedule.after(step))
        assert step == expected, "a scheduler that starts anew after each instant sees the same ones"


def test_an_interval_is_anchored_to_its_creation() -> None:
    anchor = datetime(2026, 1, 1, 0, 0, 3, 700_000, tzinfo=UTC)
    schedule = interval_schedule(10, anchor)
    assert next(schedule.after(anchor)) == datetime(2026, 1, 1, 0, 0, 13, tzinfo=UTC)
    later = datetime(2026, 1, 1, 5, 0, 0, tzinfo=UTC)
    assert next(schedule.after(later)) == datetime(2026, 1, 1, 5, 0, 3, tzinfo=UTC)


@given(st.integers(1, 86_400), st.timedeltas(timedelta(), timedelta(days=400)))
def test_the_next_of_an_interval_is_a_whole_number_of_intervals_away(seconds: int, passed: timedelta) -> None:
    schedule = IntervalSchedule(seconds, NOW)
    found = next(schedule.after(NOW + passed))
    assert (found - NOW) % timedelta(seconds=seconds) == timedelta()
    assert timedelta() < found - (NOW + passed) <= timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [0, -1, 366 * 86_400 + 1])
def test_an_interval_out_of_range_is_refused(seconds: int) -> None:
    with pytest.raises(ScheduleError) as caught:
        interval_schedule(seconds, NOW)
    assert caught.value.field == "every_seconds"
