"""One function per command. What a job owes under its old definition is accounted before that changes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UnsetType

from services.cron import problems
from services.cron.domain import (
    JOB_PREFIX,
    WAITING_OF_A_JOB,
    Concurrency,
    HttpTarget,
    Job,
    KafkaTarget,
    MisfirePolicy,
    Target,
    jitter,
    plan,
)
from services.cron.schedule import CronSchedule, Schedule, ScheduleError, cron_schedule, interval_schedule
from services.cron.schemas import (
    BODY_BYTES,
    CreateJob,
    HttpBody,
    KafkaBody,
    MisfireBody,
    NextInstant,
    NextList,
    PatchJob,
    ScheduleBody,
    TargetBody,
    job_view,
)
from services.cron.settings import CronSettings
from services.cron.store.jobs import JobStore, KeyTaken, NameTaken, NewKey, Run, TooManyJobs
from services.kit import ids
from services.kit.ssrf import ForbiddenAddressError, Policy, check_url

TRIES = 5
"""How often a command is begun anew when the scheduler touched the job between reading and writing it."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the commands need; put together once, in app.py."""

    store: JobStore
    policy: Policy
    settings: CronSettings

    @property
    def grace(self) -> timedelta:
        """As the schedulers have it."""
        return timedelta(seconds=self.settings.grace_seconds)


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key and the request that it came with."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to the request that made the job, byte by byte. `replayed`: it was an earlier one under the same key."""

    job: UUID
    body: bytes
    replayed: bool = False


async def create_job(context: Context, tenant: str, wanted: CreateJob, key: Key | None) -> Created:
    """With a key once, however often the same request comes: nobody has to guess what a lost answer said.

    Without one the name alone keeps a retry from making a second job. Raises Problem; a refusal uses up no key.
    """
    if key is not None and (earlier := await _answered(context, tenant, key)) is not None:
        return earlier
    job = await _new_job(context, tenant, wanted)
    body = msgspec.json.encode(job_view(job))
    kept = timedelta(hours=context.settings.key_lifetime_hours)
    try:
        await context.store.add(
            job, context.settings.max_jobs, NewKey(key.key, key.fingerprint, body, kept) if key else None
        )
    except KeyTaken:
        assert key is not None
        # The same request at the same moment; it has committed by now.
        if (earlier := await _answered(context, tenant, key)) is not None:
            return earlier
        raise problems.Contended from None
    except NameTaken as taken:
        raise problems.NameInUse(ids.encode(JOB_PREFIX, taken.job)) from None
    except TooManyJobs:
        raise problems.TooManyJobs(context.settings.max_jobs) from None
    return Created(job.id, body)


async def _answered(context: Context, tenant: str, key: Key) -> Created | None:
    found = await context.store.answered(tenant, key.key)
    if found is None:
        return None
    if found.fingerprint != key.fingerprint:
        raise problems.KeyReused
    return Created(found.job, found.response, replayed=True)


async def _new_job(context: Context, tenant: str, wanted: CreateJob) -> Job:
    now = await context.store.now()
    schedule = _schedule(wanted.schedule, now)
    return Job(
        id=ids.uuid7(),
        tenant_id=tenant,
        name=wanted.name,
        schedule=schedule,
        target=_target(context, wanted.target),
        misfire=_misfire(wanted.misfire),
        concurrency=wanted.concurrency,
        jitter_seconds=wanted.jitter_seconds,
        retries=wanted.retries,
        timeout_seconds=wanted.timeout_seconds,
        enabled=wanted.enabled,
        version=1,
        turn=1,
        next_at=next(schedule.after(now), None),
        created_at=now,
        updated_at=now,
    )


async def get_job(context: Context, tenant: str, job: UUID) -> Job:
    """Raises Problem."""
    found = await context.store.get(tenant, job)
    if found is None:
        raise problems.NoSuchJob
    return found


async def patch_job(context: Context, tenant: str, job: UUID, wanted: PatchJob, version: int | None) -> Job:
    """Change what is given, if the job has this version (None: whatever it has). Raises Problem."""
    for _ in range(TRIES):
        found, now = await _accounted(context, tenant, job, version)
        try:
            changed = await context.store.change(_changed(context, found, wanted, now), now)
        except NameTaken as taken:
            raise problems.NameInUse(ids.encode(JOB_PREFIX, taken.job)) from None
        if changed:
            return await get_job(context, tenant, job)
    raise problems.Contended


async def delete_job(context: Context, tenant: str, job: UUID, version: int | None) -> None:
    """Its runs that wait are skipped, one that is being fired is not called back. Raises Problem."""
    for _ in range(TRIES):
        found, _ = await _accounted(context, tenant, job, version)
        if await context.store.delete(found):
            return
    raise problems.Contended


async def _accounted(context: Context, tenant: str, job: UUID, version: int | None) -> tuple[Job, datetime]:
    """The job with a row for each instant up to now. So a job can be changed also while no scheduler lives."""
    while True:
        found, now = await get_job(context, tenant, job), await context.store.now()
        if version not in (None, found.version):
            raise problems.Changed
        if found.next_at is None or found.next_at > now:
            return found, now
        await context.store.account(plan(found, now, context.grace))


def _changed(context: Context, job: Job, wanted: PatchJob, now: datetime) -> Job:
    changed = job
    if not isinstance(wanted.name, UnsetType):
        changed = replace(changed, name=wanted.name)
    if not isinstance(wanted.schedule, UnsetType):
        schedule = _schedule(wanted.schedule, now)
        changed = replace(changed, schedule=schedule, next_at=next(schedule.after(now), None))
    if not isinstance(wanted.target, UnsetType):
        changed = replace(changed, target=_target(context, wanted.target))
    if not isinstance(wanted.misfire, UnsetType):
        changed = replace(changed, misfire=_misfire(wanted.misfire))
    if not isinstance(wanted.concurrency, UnsetType):
        changed = replace(changed, concurrency=wanted.concurrency)
    if not isinstance(wanted.jitter_seconds, UnsetType):
        changed = replace(changed, jitter_seconds=wanted.jitter_seconds)
    if not isinstance(wanted.retries, UnsetType):
        changed = replace(changed, retries=wanted.retries)
    if not isinstance(wanted.timeout_seconds, UnsetType):
        changed = replace(changed, timeout_seconds=wanted.timeout_seconds)
    if not isinstance(wanted.enabled, UnsetType):
        changed = replace(changed, enabled=wanted.enabled)
    return changed


async def run_job(context: Context, tenant: str, job: UUID, key: str) -> tuple[Run, bool]:
    """A run now, whatever the schedule says, also of a job that is not enabled. True: the key had been used before.

    Raises Problem.
    """
    for _ in range(TRIES):
        found = await get_job(context, tenant, job)
        if (earlier := await context.store.run_by_key(found.id, key)) is not None:
            return earlier, True
        active = await context.store.active(found.id, WAITING_OF_A_JOB)
        if found.concurrency is Concurrency.FORBID and active:
            raise problems.RunActive
        if active >= WAITING_OF_A_JOB:
            raise problems.BacklogFull(WAITING_OF_A_JOB)
        if (run := await context.store.run_now(found, ids.uuid7(), key)) is not None:
            return run, False
    raise problems.Contended


async def next_instants(context: Context, tenant: str, job: UUID, count: int) -> NextList:
    """From now on. Raises Problem."""
    found = await get_job(context, tenant, job)
    zone = ZoneInfo(found.schedule.zone) if isinstance(found.schedule, CronSchedule) else UTC
    return NextList(
        [
            NextInstant(at, at + jitter(found.id, at, found.jitter_seconds), at.astimezone(zone).isoformat())
            for at in islice(found.schedule.after(await context.store.now()), count)
        ]
    )


def _schedule(wanted: ScheduleBody, now: datetime) -> Schedule:
    try:
        if wanted.every_seconds is not None and wanted.cron is None and wanted.zone is None:
            return interval_schedule(wanted.every_seconds, now)
        if wanted.cron is not None and wanted.every_seconds is None:
            return cron_schedule(wanted.cron, wanted.zone or "UTC", now)
    except ScheduleError as error:
        raise problems.InvalidSchedule(error.field, error.reason) from None
    raise problems.InvalidSchedule("schedule", "has either cron and zone, or every_seconds")


def _target(context: Context, wanted: TargetBody) -> Target:
    match wanted.http, wanted.kafka:
        case HttpBody(url=url, body=body), None:
            try:
                check_url(url, context.policy)
            except ForbiddenAddressError as error:
                raise problems.InvalidTarget("url", str(error)) from None
            return HttpTarget(url, _json(body))
        case None, KafkaBody(topic=topic, key=key, body=body):
            if re.fullmatch(context.settings.kafka_topics, topic) is None:
                raise problems.InvalidTarget("topic", "The topic is not one that jobs may write to.")
            return KafkaTarget(topic, key, _json(body))
    raise problems.InvalidTarget("target", "A target has either http or kafka.")


def _json(body: msgspec.Raw) -> str:
    if len(bytes(body)) > BODY_BYTES:
        raise problems.InvalidTarget("body", f"A body has at most {BODY_BYTES} bytes.")
    try:
        return bytes(body).decode()
    except UnicodeDecodeError:
        raise problems.InvalidTarget("body", "A body is JSON in UTF-8.") from None


def _misfire(wanted: MisfireBody) -> MisfirePolicy:
    return MisfirePolicy(wanted.policy, wanted.cap, wanted.deadline_seconds)
