"""When a job is due: cron expressions in an IANA zone, and intervals.

Expressions are parsed by cronsim, with Debian's semantics:

- Day of month and day of week are joined by OR, by AND if one of them begins with a star.
- A job at a fixed time (neither minute nor hour begins with a star) that falls into the hour skipped in spring is due at the
  first minute after it: `30 2 * * *` in Europe/Berlin at 03:00. In the hour that comes twice in autumn it is due the first time only.
- Any other job follows real time: `0 * * * *` is due 23 times on the spring day and 25 times on the autumn day.

Two expressions' worth of instants that fall on one (02:00 and 02:30 in spring: both 03:00) are one instant.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Protocol

from cronsim import CronSim, CronSimError

LONGEST_EXPRESSION = 200
SHORTEST_INTERVAL = 1
LONGEST_INTERVAL = 366 * 86_400


class ScheduleError(Exception):
    """`field` is what is wrong: minute, hour, day-of-month, month, day-of-week, zone, cron, every_seconds."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Schedule(Protocol):
    """Instants are UTC, whole seconds, strictly growing."""

    def after(self, instant: datetime) -> Iterator[datetime]:
        """All instants later than `instant`; ends if there are none within 50 years."""


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """Five fields and a zone. Made by `cron_schedule`, which checks both."""

    expression: str
    zone: str

    def after(self, instant: datetime) -> Iterator[datetime]:
        """As Schedule."""
        last = instant
        try:
            for local in CronSim(self.expression, instant.astimezone(_zone(self.zone))):
                # cronsim steps through local time, so around a change of the clocks it may come upon one instant again.
                if (found := local.astimezone(UTC)) > last:
                    yield (last := found)
        except OverflowError:
            return


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """Every `seconds` since `anchor`: an outage or a slow run shifts nothing."""

    seconds: int
    anchor: datetime

    def after(self, instant: datetime) -> Iterator[datetime]:
        """As Schedule."""
        step = timedelta(seconds=self.seconds)
        passed = max(0, (instant - self.anchor) // step)
        try:
            found = self.anchor + step * (passed + 1)
            while True:
                yield found
                found += step
        except OverflowError:
            return


def cron_schedule(expression: str, zone: str, now: datetime) -> CronSchedule:
    """A checked schedule that is due some time after `now`. Raises ScheduleError."""
    if zone not in _zones():
        raise ScheduleError("zone", "is the name of an IANA time zone, such as Europe/Berlin")
    if len(expression) > LONGEST_EXPRESSION or not expression.isascii():
        raise ScheduleError("cron", f"has at most {LONGEST_EXPRESSION} characters, all of them ASCII")
    if len(expression.split()) != 5:
        raise ScheduleError("cron", "has five fields: minute, hour, day-of-month, month, day-of-week")
    schedule = CronSchedule(" ".join(expression.split()), zone)
    try:
        first = next(schedule.after(now), None)
    except CronSimError as error:
        raise ScheduleError(str(error).removeprefix("Bad "), "cannot be read") from None
    if first is None:
        raise ScheduleError("cron", "is never due")
    return schedule


def interval_schedule(seconds: int, anchor: datetime) -> IntervalSchedule:
    """Anchored at the whole second. Raises ScheduleError."""
    if not SHORTEST_INTERVAL <= seconds <= LONGEST_INTERVAL:
        raise ScheduleError("every_seconds", f"is {SHORTEST_INTERVAL} to {LONGEST_INTERVAL}")
    return IntervalSchedule(seconds, anchor.replace(microsecond=0))


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
