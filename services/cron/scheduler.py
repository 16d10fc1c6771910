"""The scheduler: three run, one holds the lease. Its term is three loops (plan, fire, finish) and a fourth that renews.

    due instants ──plan──▶ runs: waiting ──claim──▶ firing + epoch ──effect──▶ fired | late | failed
                                 ▲                     │
                                 └──── retry ──────────┘   a leader that died here: the next epoch fires again, same run id

Whatever goes wrong with the database ends the term: the loops stop, calls in flight are given up, and the node stands for
election again. The same node may win at once, under a greater epoch, and takes over what it left.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from fastapi import FastAPI

from services.cron import failpoints, metrics
from services.cron.domain import BLOCK, JOB_PREFIX, RUN_PREFIX, Delivered, Outcome, Plan, RunState, plan
from services.cron.leases import LEASE, ClosableLeases, PostgresLeases, RedisLeases
from services.cron.settings import CronSettings
from services.cron.store.plans import Deposed
from services.cron.store.schedules import Claim, Due, Finish, Schedules, open_schedules
from services.cron.targets import Effect, Targets, open_targets
from services.kit import ids, tracing
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.kit.store import StoreUnavailable
from services.patterns.backoff import Backoff
from services.patterns.lease import Lease, LeaseKeeper, LeaseLost, LeaseUnavailable

log = logging.getLogger(__name__)

RETRY = Backoff(base=1.0, cap=60.0)
"""Before a target is called again, full jitter."""
DUE_BATCH = 500
AWAY_SECONDS = 0.3
GAUGE_SECONDS = 1.0


class Finisher:
    """Writes the ends of runs, all that have come while the last write was under way in one statement."""

    def __init__(self, store: Schedules, grace_seconds: float) -> None:
        self._store = store
        self._grace = grace_seconds
        self._queue: asyncio.Queue[tuple[Finish, asyncio.Future[str | None]]] = asyncio.Queue()

    async def finish(self, end: Finish) -> str | None:
        """The state that was committed, None if the run was not ours any more. Raises nothing: a failure ends the term."""
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((end, done))
        return await done

    async def run(self) -> None:
        """Until cancelled. Raises StoreUnavailable."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            states = await self._store.finish([end for end, _ in batch], self._grace)
            for end, done in batch:
                if not done.done():
                    done.set_result(states.get(end.id))


@dataclass(slots=True)
class Term:
    """One leadership: from winning the lease to losing it or giving it back."""

    settings: CronSettings
    store: Schedules
    lease: Lease
    targets: Targets
    clock: Clock
    chance: random.Random
    finisher: Finisher
    fresh: asyncio.Event = field(default_factory=asyncio.Event)
    running: dict[UUID, asyncio.Task[None]] = field(default_factory=dict)
    group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    measured: float = float("-inf")

    @property
    def grace(self) -> timedelta:
        """Later than this is late."""
        return timedelta(seconds=self.settings.grace_seconds)

    async def run(self, keeper: LeaseKeeper, retired: asyncio.Event) -> None:
        """Until `retired`. Raises a group of LeaseLost, StoreUnavailable or Deposed."""
        async with self.group as group:
            work = [group.create_task(loop) for loop in (self._plan_forever(), self._fire_forever())]
            rest = [group.create_task(loop) for loop in (self.finisher.run(), keeper.keep(self.lease))]
            await retired.wait()
            for task in work:
                task.cancel()
            if self.running:
                await asyncio.wait(self.running.values(), timeout=self.settings.handover_seconds)
            for task in (*rest, *self.running.values()):
                task.cancel()

    async def _plan_forever(self) -> None:
        while True:
            due = await self.store.due(DUE_BATCH)
            self._compare_clocks(due)
            await self._measure()
            if due.jobs:
                await self._plan(due)
            else:
                poll = self.settings.poll_seconds
                await asyncio.sleep(poll if due.wait is None else min(poll, max(0.0, due.wait)))

    async def _plan(self, due: Due) -> None:
        names = " ".join(job.name for job in due.jobs)
        await failpoint(failpoints.AFTER_DUE_LIST, names)
        batch: list[Plan] = []
        size = 0
        for job in due.jobs:
            batch.append(plan(job, due.now, self.grace))
            # Weeks of missed minutes take 0.1 s a job: in one go 500 jobs would outlast the lease, and every successor's too.
            await asyncio.sleep(0)
            size += len(batch[-1].instants)
            if size >= BLOCK:
                await self._write(batch)
                batch, size = [], 0
        if batch:
            await self._write(batch)
        await failpoint(failpoints.AFTER_PLAN, names)

    async def _write(self, plans: list[Plan]) -> None:
        planned = await self.store.plan(plans)
        for state, count in planned.counts.items():
            if state != RunState.WAITING:
                metrics.RUNS.labels(state).inc(count)
        for run in planned.replaced:
            if run in self.running:
                self.running[run].cancel()
        self.fresh.set()

    async def _fire_forever(self) -> None:
        while True:
            self.fresh.clear()
            free = self.settings.concurrency - len(self.running)
            claims = await self.store.claim(self.settings.node, free) if free else []
            if claims:
                await failpoint(failpoints.AFTER_CLAIM, " ".join(claim.job_name for claim in claims))
            for claim in claims:
                self._begin(claim)
            if self.running and len(claims) == free:
                await asyncio.wait(self.running.values(), return_when=asyncio.FIRST_COMPLETED)
            elif not claims:
                await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        wait = await self.store.pause()
        poll = self.settings.poll_seconds
        try:
            async with asyncio.timeout(poll if wait is None else min(poll, max(0.001, wait))):
                await self.fresh.wait()
        except TimeoutError:
            pass

    def _begin(self, claim: Claim) -> None:
        task = self.group.create_task(self._fire(claim))
        self.running[claim.id] = task
        metrics.IN_FLIGHT.set(len(self.running))
        task.add_done_callback(lambda _: self._ended(claim.id))

    def _ended(self, run: UUID) -> None:
        self.running.pop(run, None)
        metrics.IN_FLIGHT.set(len(self.running))
        self.fresh.set()

    async def _fire(self, claim: Claim) -> None:
        if not self.lease.valid():
            raise LeaseLost("it ended before an effect")
        if claim.attempt == 1:
            metrics.LATENESS.observe(max(0.0, claim.lateness))
        # A pause from here on is beyond what a lease can help: the target refuses our epoch.
        await failpoint(failpoints.BEFORE_EFFECT, claim.job_name)
        effect = Effect(
            claim.id,
            claim.job_id,
            claim.scheduled_for,
            self.lease.epoch,
            claim.attempt,
            claim.timeout_seconds,
            claim.deadline_at,
        )
        with tracing.span("run", new_trace=True) as span:
            _describe(span, claim, effect)
            outcome = await self.targets.fire(claim.target, effect)
            await failpoint(failpoints.AFTER_EFFECT, claim.job_name)
            state = await self.finisher.finish(decide(claim, outcome, self.chance))
            await failpoint(failpoints.AFTER_FINISH, claim.job_name)
            span.set("cron.run.state", state or "not_ours")
        if state is not None and state != RunState.WAITING:
            metrics.RUNS.labels(state).inc()

    async def _measure(self) -> None:
        if self.clock.monotonic() < self.measured + GAUGE_SECONDS:
            return
        self.measured = self.clock.monotonic()
        waiting, oldest = await self.store.backlog()
        metrics.BACKLOG.set(waiting)
        metrics.BACKLOG_OLDEST.set(oldest)

    def _compare_clocks(self, due: Due) -> None:
        metrics.CLOCK_OFFSET.set((self.clock.now() - due.now).total_seconds())


def _describe(span: tracing.Span, claim: Claim, effect: Effect) -> None:
    span.set("cron.job.id", ids.encode(JOB_PREFIX, claim.job_id))
    span.set("cron.run.id", ids.encode(RUN_PREFIX, claim.id))
    span.set("cron.run.scheduled_for", effect.instant)
    span.set("cron.run.attempt", claim.attempt)
    span.set("cron.epoch", effect.epoch)


def decide(claim: Claim, outcome: Outcome, chance: random.Random) -> Finish:
    """What a call's outcome makes of the run. The same run id goes out again in a retry."""
    if isinstance(outcome, Delivered):
        return Finish(claim.id, RunState.FIRED, None, outcome.status)
    if outcome.again and claim.attempt <= claim.retries:
        delay = RETRY.delay(claim.attempt - 1, chance)
        return Finish(claim.id, RunState.WAITING, outcome.reason, outcome.status, delay)
    return Finish(claim.id, RunState.FAILED, outcome.reason, outcome.status)


class Scheduler:
    """Stands for election, leads, stands again. `retire` ends it in order."""

    def __init__(
        self, settings: CronSettings, targets: Targets, leases: ClosableLeases, clock: Clock, chance: random.Random
    ) -> None:
        self._settings = settings
        self._targets = targets
        self._leases = leases
        self._clock = clock
        self._chance = chance
        self._retired = asyncio.Event()
        self.ended = asyncio.Event()
        self.store_ok = False
        # Never two with one name: a process that comes back must not take its dead forerunner's lease for its own.
        holder = f"{settings.node}/{ids.encode('inc', ids.uuid7())}"
        self._keeper = LeaseKeeper(
            leases, LEASE, holder, settings.lease_seconds, clock.monotonic, metrics.RENEW_FAILURES.inc
        )

    def retire(self) -> None:
        """Begin to step down; `ended` says when it is done."""
        self._retired.set()

    async def run(self) -> None:
        """Until retired or cancelled."""
        try:
            while not self._retired.is_set():
                try:
                    lease = await self._keeper.acquire()
                    pause = 0.0 if lease else await self._keeper.pause(self._settings.poll_seconds)
                    self.store_ok = True
                except LeaseUnavailable as error:
                    self.store_ok = False
                    log.warning("the lease cannot be asked for", extra={"error": str(error)})
                    await self._sleep(AWAY_SECONDS)
                    continue
                if lease is None:
                    await self._sleep(pause)
                else:
                    await self._lead(lease)
        finally:
            await self._leases.close()
            self.ended.set()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._retired.wait()
        except TimeoutError:
            pass

    async def _lead(self, lease: Lease) -> None:
        log.info("leading", extra={"epoch": lease.epoch, "node": self._settings.node})
        metrics.LEADER.set(1)
        metrics.EPOCH.set(lease.epoch)
        reason = "retired"
        try:
            await self._serve_term(lease)
        except* LeaseLost as lost:
            reason = "lease_lost"
            log.warning("the lease is lost", extra={"epoch": lease.epoch, "error": str(lost.exceptions[0])})
        except* Deposed:
            reason = "deposed"
            log.warning("somebody else leads", extra={"epoch": lease.epoch})
        except* StoreUnavailable as away:
            reason = "database_away"
            log.warning("the database is away", extra={"epoch": lease.epoch, "error": str(away.exceptions[0])})
        finally:
            metrics.LEADER.set(0)
            metrics.EPOCH.set(0)
            metrics.TERMS_ENDED.labels(reason).inc()
        if reason != "retired":
            await self._sleep(AWAY_SECONDS)

    async def _serve_term(self, lease: Lease) -> None:
        async with open_schedules(self._settings.database_url.get_secret_value(), lease.epoch) as store:
            if self._settings.lease_store == "redis" and not await store.fence(
                self._keeper.holder, self._settings.node
            ):
                raise Deposed
            term = Term(
                self._settings,
                store,
                lease,
                self._targets,
                self._clock,
                self._chance,
                Finisher(store, self._settings.grace_seconds),
            )
            await term.run(self._keeper, self._retired)
        await self._keeper.release(lease)


def open_leases(process: ProcessSettings, settings: CronSettings) -> ClosableLeases:
    """The lease's store, as the settings say."""
    if settings.lease_store == "redis":
        return RedisLeases(settings.redis_url.get_secret_value(), process.lab_prefix)
    return PostgresLeases(settings.database_url.get_secret_value(), settings.node)


def create_worker(
    process: ProcessSettings, settings: CronSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """A scheduler process."""
    failpoints.register(*failpoints.SCHEDULER)
    tasks, current = Tasks(), Current[Scheduler]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with open_targets(settings, lab_profile=process.lab_profile, prefix=process.lab_prefix) as targets:
            leases = open_leases(process, settings)
            scheduler = Scheduler(settings, targets, leases, clock or SystemClock(), random.SystemRandom())
            with current.holding(scheduler):
                tasks.start("scheduler", scheduler.run())
                yield
                scheduler.retire()
                await _ended(scheduler, settings.handover_seconds + 3)
                await tasks.stop()

    checks = {"lease_store": current.ready(lambda it: it.store_ok)}
    return service_app("cron-scheduler", process, lifespan=lifespan, checks=checks), tasks


async def _ended(scheduler: Scheduler, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await scheduler.ended.wait()
    except TimeoutError:
        log.warning("the scheduler did not step down in time; its lease will end by itself")
