"""Bodies and answers of the cron API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.cron.domain import (
    JOB_PREFIX,
    LARGEST_CAP,
    RUN_PREFIX,
    Concurrency,
    HttpTarget,
    Job,
    Misfire,
)
from services.cron.schedule import (
    LONGEST_EXPRESSION,
    LONGEST_INTERVAL,
    SHORTEST_INTERVAL,
    CronSchedule,
    IntervalSchedule,
)
from services.cron.store.jobs import Run
from services.kit import ids

BODY_BYTES = 16 * 1024

Name = Annotated[
    str,
    Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+\Z", description="Once only among the tenant's jobs"),
]
Jitter = Annotated[
    int, Meta(ge=0, le=86_400, description="Seconds; each instant is put off by 0 to this, the same on every node")
]
Retries = Annotated[int, Meta(ge=0, le=10, description="Further tries after the first, with the same run id")]
Timeout = Annotated[int, Meta(ge=1, le=300, description="Seconds for one call of the target")]


class ScheduleBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Either `cron` with `zone`, or `every_seconds`, counted from the creation."""

    cron: Annotated[str, Meta(min_length=1, max_length=LONGEST_EXPRESSION)] | None = None
    zone: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    every_seconds: Annotated[int, Meta(ge=SHORTEST_INTERVAL, le=LONGEST_INTERVAL)] | None = None


class HttpBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A POST of `body` (any JSON) to a public address."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    body: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


class KafkaBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A message with `body` (any JSON) as its value; without a key the job's id is the key."""

    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    key: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[!-~]*\Z")] | None = None
    body: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


class TargetBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Either of them."""

    http: HttpBody | None = None
    kafka: KafkaBody | None = None


class MisfireBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of instants that nobody fired in time."""

    policy: Misfire = Misfire.ONCE
    cap: Annotated[int, Meta(ge=1, le=LARGEST_CAP)] = 100
    deadline_seconds: Annotated[int, Meta(ge=1, le=366 * 86_400)] | None = None


class CreateJob(Struct, frozen=True, forbid_unknown_fields=True):
    """A job, enabled if nothing else is said."""

    name: Name
    schedule: ScheduleBody
    target: TargetBody
    misfire: MisfireBody = MisfireBody()
    concurrency: Concurrency = Concurrency.ALLOW
    jitter_seconds: Jitter = 0
    retries: Retries = 0
    timeout_seconds: Timeout = 15
    enabled: bool = True


class PatchJob(Struct, frozen=True, forbid_unknown_fields=True):
    """What is given replaces what was; `schedule`, `target` and `misfire` each as a whole."""

    name: Name | UnsetType = UNSET
    schedule: ScheduleBody | UnsetType = UNSET
    target: TargetBody | UnsetType = UNSET
    misfire: MisfireBody | UnsetType = UNSET
    concurrency: Concurrency | UnsetType = UNSET
    jitter_seconds: Jitter | UnsetType = UNSET
    retries: Retries | UnsetType = UNSET
    timeout_seconds: Timeout | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class JobView(Struct, frozen=True):
    """`next_at`: the next instant, before jitter; null if there is none."""

    id: str
    name: str
    schedule: dict[str, str | int]
    target: dict[str, Any]
    misfire: MisfireBody
    concurrency: str
    jitter_seconds: int
    retries: int
    timeout_seconds: int
    enabled: bool
    version: int
    next_at: datetime | None
    created_at: datetime
    updated_at: datetime


class JobList(Struct, frozen=True):
    """Newest first. `next_cursor` is null on the last page."""

    data: list[JobView]
    next_cursor: str | None


class NextInstant(Struct, frozen=True):
    """`due_at` is `at` with its jitter; `local` is `at` as the job's zone writes it."""

    at: datetime
    due_at: datetime
    local: str


class NextList(Struct, frozen=True):
    """The next instants, soonest first; fewer than asked for if there are no more."""

    data: list[NextInstant]


class RunView(Struct, frozen=True):
    """A row of the audit: one instant, or `covers` of them. `reason` and `status` (HTTP) are those of the last try."""

    id: str
    job: str
    kind: str
    scheduled_for: datetime
    due_at: datetime
    state: str
    reason: str | None
    covers: int
    epoch: int | None
    node: str | None
    attempts: int
    status: int | None
    created_at: datetime
    fired_at: datetime | None
    finished_at: datetime | None


class RunList(Struct, frozen=True):
    """Newest instant first. `next_cursor` is null on the last page."""

    data: list[RunView]
    next_cursor: str | None


def job_view(job: Job) -> JobView:
    """How a job looks from outside."""
    return JobView(
        id=ids.encode(JOB_PREFIX, job.id),
        name=job.name,
        schedule=_schedule(job),
        target=_target(job),
        misfire=MisfireBody(job.misfire.policy, job.misfire.cap, job.misfire.deadline_seconds),
        concurrency=job.concurrency.value,
        jitter_seconds=job.jitter_seconds,
        retries=job.retries,
        timeout_seconds=job.timeout_seconds,
        enabled=job.enabled,
        version=job.version,
        next_at=job.next_at,
        created_at=job.created_at,
        updated_at=job.updated_at,
    )


def _schedule(job: Job) -> dict[str, str | int]:
    if isinstance(job.schedule, CronSchedule):
        return {"cron": job.schedule.expression, "zone": job.schedule.zone}
    assert isinstance(job.schedule, IntervalSchedule)
    return {"every_seconds": job.schedule.seconds}


def _target(job: Job) -> dict[str, Any]:
    body = msgspec.Raw(job.target.body.encode())
    if isinstance(job.target, HttpTarget):
        return {"http": {"url": job.target.url, "body": body}}
    return {"kafka": {"topic": job.target.topic, "key": job.target.key, "body": body}}


def run_view(run: Run) -> RunView:
    """How a run looks from outside."""
    return RunView(
        id=ids.encode(RUN_PREFIX, run.id),
        job=ids.encode(JOB_PREFIX, run.job_id),
        kind=run.kind,
        scheduled_for=run.scheduled_for,
        due_at=run.due_at,
        state=run.state,
        reason=run.reason,
        covers=run.covers,
        epoch=run.epoch,
        node=run.node,
        attempts=run.attempts,
        status=run.status,
        created_at=run.created_at,
        fired_at=run.fired_at,
        finished_at=run.finished_at,
    )
