"""Jobs, runs, and what becomes of each instant: pure, the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from itertools import islice
from uuid import UUID

from services.cron.schedule import Schedule

JOB_PREFIX = "job"
RUN_PREFIX = "run"

BLOCK = 5_000
"""The newest BLOCK to 2 * BLOCK missed instants of a job have a row each; older ones are accounted BLOCK to a row."""
LARGEST_CAP = 1_000
WAITING_OF_A_JOB = 100
"""While so many runs of a job wait or are worked on, further instants are skipped (`backlog`)."""


class Misfire(StrEnum):
    """What becomes of instants that nobody fired in time."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Concurrency(StrEnum):
    """What becomes of an instant while an earlier run of the job is not finished."""

    ALLOW = "allow"
    FORBID = "forbid"
    REPLACE = "replace"


class RunState(StrEnum):
    """FIRED and LATE: the target took it. FIRING: it may have. WAITING: for its jittered instant, a slot or a retry."""

    WAITING = "waiting"
    FIRING = "firing"
    FIRED = "fired"
    LATE = "late"
    COALESCED = "coalesced"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class MisfirePolicy:
    """`cap`: at most so many of ALL are caught up, the newest. `deadline_seconds`: older ones never run."""

    policy: Misfire = Misfire.ONCE
    cap: int = 100
    deadline_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """POST with a JSON body."""

    url: str
    body: str


@dataclass(frozen=True, slots=True)
class KafkaTarget:
    """A message with a JSON value."""

    topic: str
    key: str | None
    body: str


Target = HttpTarget | KafkaTarget


@dataclass(frozen=True, slots=True)
class Job:
    """`version` counts what its owner changed, `turn` also what the scheduler did. `next_at`: the first instant without a row."""

    id: UUID
    tenant_id: str
    name: str
    schedule: Schedule
    target: Target
    misfire: MisfirePolicy
    concurrency: Concurrency
    jitter_seconds: int
    retries: int
    timeout_seconds: int
    enabled: bool
    version: int
    turn: int
    next_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Instant:
    """What was decided for one instant, or for `covers` of them, `scheduled_for` being the first."""

    scheduled_for: datetime
    due_at: datetime
    state: RunState
    reason: str | None = None
    covers: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """All instants of a job that are due, decided, and the next one that is not due."""

    job: Job
    next_at: datetime | None
    instants: tuple[Instant, ...]


def jitter(job_id: UUID, scheduled_for: datetime, seconds: int) -> timedelta:
    """0 to `seconds`, the same for every scheduler that computes it."""
    if seconds == 0:
        return timedelta()
    text = job_id.bytes + int(scheduled_for.timestamp()).to_bytes(8, "big", signed=True)
    share = int.from_bytes(blake2b(text, digest_size=7).digest(), "big") / 2**56
    return timedelta(seconds=seconds * share)


def plan(job: Job, now: datetime, grace: timedelta) -> Plan:
    """Decide every instant of `job` from `next_at` to `now`. One that is due for longer than `grace` is a misfire.

    When there are too many for one plan, only the oldest BLOCK of them are decided (skipped, as one): plan again.
    """
    if job.next_at is None or job.next_at > now:
        return Plan(job, job.next_at, ())
    found = [job.next_at]
    for instant in islice(job.schedule.after(job.next_at), 2 * BLOCK):
        found.append(instant)
        if instant > now:
            return Plan(job, instant, tuple(_decided(job, found[:-1], now, grace)))
    if len(found) <= 2 * BLOCK:
        return Plan(job, None, tuple(_decided(job, found, now, grace)))
    reason = "misfire" if job.enabled else "paused"
    block = Instant(found[0], found[0], RunState.SKIPPED, reason, BLOCK)
    return Plan(job, found[BLOCK], (block,))


def _decided(job: Job, found: Sequence[datetime], now: datetime, grace: timedelta) -> list[Instant]:
    due = [
        Instant(
            each, each + jitter(job.id, each, job.jitter_seconds), RunState.WAITING if job.enabled else RunState.SKIPPED
        )
        for each in found
    ]
    if not job.enabled:
        return [replace(each, reason="paused") for each in due]
    late = [each for each in due if now - each.due_at > grace]
    decided = {each.scheduled_for: each for each in due} | {
        each.scheduled_for: each for each in _missed(job, late, now)
    }
    return _one_at_a_time(job, list(decided.values()))


def _missed(job: Job, late: Sequence[Instant], now: datetime) -> list[Instant]:
    bound = job.misfire.deadline_seconds
    # By each one's own jittered instant: these do not come in the order of the instants.
    oldest = None if bound is None else now - timedelta(seconds=bound)
    fresh = [each for each in late if oldest is None or each.due_at >= oldest]
    decided = [
        replace(each, state=RunState.SKIPPED, reason="deadline") for each in late if oldest and each.due_at < oldest
    ]
    match job.misfire.policy:
        case Misfire.SKIP:
            decided += [replace(each, state=RunState.SKIPPED, reason="misfire") for each in fresh]
        case Misfire.ONCE:
            decided += [replace(each, state=RunState.COALESCED, reason="misfire") for each in fresh[:-1]]
        case Misfire.ALL:
            beyond = fresh[: max(0, len(fresh) - job.misfire.cap)]
            decided += [replace(each, state=RunState.SKIPPED, reason="cap") for each in beyond]
    return decided


def _one_at_a_time(job: Job, due: list[Instant]) -> list[Instant]:
    """REPLACE: of several that become due at once only the newest runs. FORBID: they run one after the other."""
    if job.concurrency is not Concurrency.REPLACE:
        return due
    newest = max((each.scheduled_for for each in due if each.state is RunState.WAITING), default=None)
    return [
        replace(each, state=RunState.SKIPPED, reason="replaced")
        if each.state is RunState.WAITING and each.scheduled_for != newest
        else each
        for each in due
    ]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The target took it."""

    status: int | None = None


@dataclass(frozen=True, slots=True)
class Undelivered:
    """`again`: worth another try under the same run id. `reason` is one of a fixed set."""

    reason: str
    again: bool
    status: int | None = None


Outcome = Delivered | Undelivered
