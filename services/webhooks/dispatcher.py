"""Delivers what is due. Any number of dispatchers may run; each claims rows with a lease and tells how they ended in batches.

Four loops: *scout* finds the endpoints with due work, *claim* takes as much of it as their lanes allow, *commit* makes the
outcomes durable, many in one commit, and *tend* takes back what a dead dispatcher left and buries what nobody wants.
A slot is held from the claim until the outcome is durable, so a kill can repeat no more than what was in flight.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from fastapi import FastAPI

from services.kit import ids, postgres, ssrf, tracing
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.webhooks import failpoints, metrics
from services.webhooks.domain import (
    EXHAUSTED_EVENT,
    RECOVERED_AFTER,
    RECOVERED_EVENT,
    AttemptOutcome,
    DeadReason,
    DeliveryState,
    DisabledReason,
    Judgement,
    Result,
    judge,
)
from services.webhooks.keys import Keyring
from services.webhooks.lanes import Lanes, Rest
from services.webhooks.sender import Sender
from services.webhooks.settings import WebhooksSettings
from services.webhooks.store import Aftermath, Claim, DeliveryStore, Ended, OperationalEvent, StoreUnavailable

log = logging.getLogger(__name__)

CLAIM_PAUSE = 0.005
"""Between two claims while there is work: shorter makes smaller batches, and the statement costs what it costs."""
COMMIT_PAUSE = 0.003
COMMIT_BATCH = 200
COMMIT_SECONDS = 5.0
"""Bound on making the last outcomes durable at shutdown; what is not is taken back when its lease ends."""
AWAY_SECONDS = 0.3
TEND_SECONDS = 0.5
TEND_BATCH = 500
SCOUT_SHARE = 8
"""The scout rests so many times as long as its look took, so that a million queues do not cost the database a core."""


class Dispatcher:
    """Create, `start` its loops in a Tasks, and `drain` at the end."""

    def __init__(
        self,
        store: DeliveryStore,
        sender: Sender,
        settings: WebhooksSettings,
        *,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._store = store
        self._sender = sender
        self._settings = settings
        self._schedule = settings.retries
        self._clock = clock
        self._chance = chance
        self._lanes: Lanes[UUID] = Lanes(
            slots=settings.slots,
            slow_slots=min(settings.slow_slots, settings.slots - 1),
            bound=settings.endpoint_in_flight,
            slow_after=min(settings.slow_after_seconds, settings.timeout_seconds / 2),
            rest=Rest(settings.timeout_seconds, settings.rest_limit),
        )
        self._counted = {outcome: metrics.ATTEMPTS.labels(outcome.value) for outcome in AttemptOutcome}
        self._timed = {outcome: metrics.ATTEMPT_SECONDS.labels(outcome.value) for outcome in AttemptOutcome}
        self._attempts: set[asyncio.Task[None]] = set()
        self._ended: list[tuple[Ended, Judgement]] = []
        self._work = asyncio.Event()
        self._outcomes = asyncio.Event()
        self._unwanted: set[UUID] = set()
        self._draining = False
        self._claimed_last = asyncio.Event()
        self._idle = asyncio.Event()

    def start(self, tasks: Tasks) -> None:
        """The four loops."""
        tasks.start("scout", self._scout())
        tasks.start("claim", self._claim())
        tasks.start("commit", self._commit())
        tasks.start("tend", self._tend())

    async def drain(self, seconds: float) -> None:
        """Claim no more; let attempts end for so long, cut off the rest (they are in the log as interrupted), commit all."""
        self._draining = True
        # A claim that is under way brings attempts yet.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._claimed_last.wait(), COMMIT_SECONDS)
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=seconds)
        for task in self._attempts:
            task.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        if not self._lanes.in_flight:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), COMMIT_SECONDS)

    async def _scout(self) -> None:
        while not self._draining:
            began = self._clock.monotonic()
            try:
                for found in await self._store.ready():
                    if found.enabled:
                        self._lanes.ready(
                            found.endpoint_id, found.rate_per_second, found.max_in_flight, began, failing=found.failing
                        )
                    else:
                        self._lanes.unwanted(found.endpoint_id)
                        self._unwanted.add(found.endpoint_id)
                self._work.set()
            except StoreUnavailable as error:
                log.warning("the database is away", extra={"error": str(error)})
            took = self._clock.monotonic() - began
            await asyncio.sleep(max(self._settings.poll_seconds, took * SCOUT_SHARE))

    async def _claim(self) -> None:
        try:
            await self._claim_until_draining()
        finally:
            self._claimed_last.set()

    async def _claim_until_draining(self) -> None:
        while not self._draining:
            plan = self._lanes.plan(self._clock.monotonic(), self._settings.claim_batch)
            if not plan:
                self._work.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._work.wait(), self._settings.poll_seconds)
                continue
            try:
                claims = await self._store.claim(plan, self._settings.lease_seconds)
            except StoreUnavailable as error:
                log.warning("the database is away", extra={"error": str(error)})
                await asyncio.sleep(AWAY_SECONDS)
                continue
            await failpoint(failpoints.AFTER_CLAIM)
            self._begin(plan, claims)
            await asyncio.sleep(CLAIM_PAUSE)

    def _begin(self, plan: dict[UUID, int], claims: list[Claim]) -> None:
        got = dict.fromkeys(plan, 0)
        now = self._clock.monotonic()
        for claim in claims:
            got[claim.endpoint_id] += 1
            self._lanes.begin(claim.endpoint_id, claim.attempt_id, now)
            task = asyncio.create_task(self._attempt(claim))
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)
        for endpoint, wanted in plan.items():
            self._lanes.claimed(endpoint, wanted, got[endpoint])

    async def _attempt(self, claim: Claim) -> None:
        started_at, began = self._clock.now(), self._clock.monotonic()
        result = Result(AttemptOutcome.INTERRUPTED, error="the dispatcher was stopped")
        try:
            await failpoint(failpoints.BEFORE_ATTEMPT)
            if claim.attempts == 0:
                metrics.FIRST_ATTEMPT_DELAY.observe(max((started_at - claim.created_at).total_seconds(), 0))
            result = await self._sender.attempt(claim, started_at.timestamp())
            await failpoint(failpoints.AFTER_RESPONSE)
        finally:
            self._note(claim, result, started_at, self._clock.monotonic() - began)

    def _note(self, claim: Claim, result: Result, started_at: datetime, seconds: float) -> None:
        """Judge, free the lane, queue the outcome. Without a wait, so that a cancelled attempt gets here too."""
        outcome = result.outcome
        if outcome is AttemptOutcome.INTERRUPTED:
            judgement, step = Judgement(DeliveryState.SCHEDULED, delay=0.0), claim.step
        else:
            judgement = judge(result, claim.step, self._schedule, self._clock.now(), self._chance)
            step = claim.step + 1
        timed_out = outcome is AttemptOutcome.TIMED_OUT
        well = True if outcome is AttemptOutcome.DELIVERED else False if timed_out else None
        now = self._clock.monotonic()
        self._lanes.end(claim.endpoint_id, claim.attempt_id, now, well=well)
        if judgement.pause:
            self._lanes.pause(claim.endpoint_id, now + judgement.pause)
        self._counted[outcome].inc()
        self._timed[outcome].observe(seconds, tracing.exemplar(claim.traceparent))
        ended = Ended(
            claim,
            started_at,
            started_at + timedelta(seconds=seconds),
            outcome.value,
            result.status,
            result.error,
            result.body,
            judgement.state.value,
            step,
            judgement.delay,
            judgement.reason.value if judgement.reason else None,
        )
        self._ended.append((ended, judgement))
        self._outcomes.set()
        self._work.set()

    async def _commit(self) -> None:
        """Runs until cancelled; a database that is away is waited for, the outcomes stay here."""
        while True:
            await self._outcomes.wait()
            await asyncio.sleep(COMMIT_PAUSE)
            batch, self._ended = self._ended[:COMMIT_BATCH], self._ended[COMMIT_BATCH:]
            if not self._ended:
                self._outcomes.clear()
            if batch:
                await self._commit_batch(batch)

    async def _commit_batch(self, batch: list[tuple[Ended, Judgement]]) -> None:
        ended = [each for each, _ in batch]
        after = aftermath(batch, self._clock.now(), self._settings.disable_after_seconds)
        while True:
            try:
                moved = await self._store.finish(ended, after)
                break
            except StoreUnavailable as error:
                log.warning("the database is away; outcomes wait", extra={"error": str(error), "outcomes": len(ended)})
                await asyncio.sleep(AWAY_SECONDS)
        await failpoint(failpoints.AFTER_OUTCOME_COMMIT)
        self._lanes.durable(len(ended))
        if self._draining and not self._lanes.in_flight:
            self._idle.set()
        self._work.set()
        metrics.OUTCOME_BATCH.observe(len(ended))
        if stale := len(ended) - len(moved):
            metrics.STALE_OUTCOMES.inc(stale)
        for each in ended:
            if each.dead_reason is not None and each.claim.delivery_id in moved:
                metrics.DEAD.labels(each.dead_reason).inc()
        for endpoint, reason in after.disable.items():
            self._lanes.unwanted(endpoint)
            metrics.DISABLED.labels(reason).inc()

    async def _tend(self) -> None:
        while True:
            now = self._clock.monotonic()
            self._lanes.tick(now)
            metrics.IN_FLIGHT.set(self._lanes.in_flight)
            metrics.SLOW_IN_FLIGHT.set(self._lanes.slow)
            try:
                if back := await self._store.take_back(TEND_BATCH):
                    metrics.TAKEN_BACK.inc(back)
                    metrics.ATTEMPTS.labels(AttemptOutcome.INTERRUPTED.value).inc(back)
                    log.warning("took back claims that nobody finished", extra={"claims": back})
                if self._unwanted:
                    buried = await self._store.bury(list(self._unwanted), TEND_BATCH)
                    metrics.DEAD.labels(DeadReason.ENDPOINT_DISABLED.value).inc(buried)
                    if buried < TEND_BATCH:
                        self._unwanted.clear()
            except StoreUnavailable as error:
                log.warning("the database is away", extra={"error": str(error)})
            await asyncio.sleep(TEND_SECONDS)


def aftermath(batch: list[tuple[Ended, Judgement]], now: datetime, disable_after_seconds: float) -> Aftermath:
    """What these outcomes mean beyond their deliveries."""
    well: set[UUID] = set()
    failing: set[UUID] = set()
    disable: dict[UUID, str] = {}
    events: dict[UUID, OperationalEvent] = {}
    for ended, judgement in batch:
        claim = ended.claim
        if judgement.state is DeliveryState.DELIVERED:
            if claim.failing_since is not None:
                well.add(claim.endpoint_id)
            if claim.exhausted or claim.attempts >= RECOVERED_AFTER:
                _tell(events, RECOVERED_EVENT, ended)
            continue
        if ended.outcome == AttemptOutcome.INTERRUPTED.value:
            continue
        if claim.failing_since is None:
            failing.add(claim.endpoint_id)
        elif (now - claim.failing_since).total_seconds() >= disable_after_seconds:
            disable[claim.endpoint_id] = DisabledReason.FAILING.value
        if judgement.disable:
            disable[claim.endpoint_id] = DisabledReason.GONE.value
        if judgement.reason is DeadReason.EXHAUSTED:
            _tell(events, EXHAUSTED_EVENT, ended)
    # An endpoint that did both in one batch is well: what it last did is not known, and well is corrected by the next failure.
    return Aftermath(frozenset(well), frozenset(failing - well), disable, events)


def _tell(events: dict[UUID, OperationalEvent], kind: str, ended: Ended) -> None:
    claim = ended.claim
    if claim.operational:
        return
    body = {
        "message_id": ids.encode("msg", claim.message_id),
        "event_id": claim.event_id,
        "event_type": claim.event_type,
        "endpoint_id": ids.encode("ep", claim.endpoint_id),
        "attempts": claim.attempts + 1,
        "last_status": ended.status,
    }
    events[claim.delivery_id] = OperationalEvent(
        kind, claim.application_id, msgspec.json.encode(body), claim.traceparent
    )


def policy(process: ProcessSettings, settings: WebhooksSettings) -> ssrf.Policy:
    """Where endpoints may be. Raises SystemExit for a lab's exception outside the lab profile."""
    try:
        return ssrf.Policy(process.lab_profile, settings.allow_loopback, settings.trusted_hosts)
    except ValueError as error:
        raise SystemExit(f"Wrong settings. WEBHOOKS_ALLOW_LOOPBACK, WEBHOOKS_TRUSTED_HOSTS: {error}") from None


def create_worker(
    process: ProcessSettings, settings: WebhooksSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The dispatcher process."""
    failpoints.register(*failpoints.DISPATCHER)
    allowed = policy(process, settings)
    tasks, current = Tasks(), Current[DeliveryStore]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keyring = Keyring(settings.secrets_key.get_secret_value())
        async with (
            await postgres.create_pool(
                settings.database_url.get_secret_value(), name="webhooks-dispatcher", maximum=settings.database_pool
            ) as pool,
            Sender(allowed, keyring, timeout=settings.timeout_seconds) as sender,
        ):
            store = DeliveryStore(pool)
            dispatcher = Dispatcher(store, sender, settings, clock=clock or SystemClock(), chance=random.SystemRandom())
            with current.holding(store):
                dispatcher.start(tasks)
                yield
                await dispatcher.drain(process.drain_seconds)
                await tasks.stop()

    checks = {"database": current.ready(lambda it: it.answers())}
    return service_app("webhooks-dispatcher", process, lifespan=lifespan, checks=checks), tasks
