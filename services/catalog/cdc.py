"""Registers the connector that reads the database's log, and watches it: it may fail, but never in silence.

A slot is lost when it is gone, or when the log that it needs was removed because it lay too long (max_slot_wal_keep_size). Changes
of the meantime can then not be read any more. Debezium would fail its task (offset.mismatch.strategy=trust_offset); this process
sees it in the database, says so in the log and in a metric, and orders a new snapshot, which tells every product once more.
Products that were deleted in the meantime are in no snapshot: the audit of search finds them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fastapi import FastAPI

from services.catalog import metrics
from services.catalog.connect import Connect, ConnectAway, State, Status
from services.catalog.connector import Names, configuration
from services.catalog.settings import ConnectorSettings
from services.catalog.store.slots import Slot, Slots
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.kit.store import StoreUnavailable
from services.patterns.backoff import Backoff

log = logging.getLogger(__name__)

RESTARTS = Backoff(base=1.0, cap=30.0)
"""Between restarts of a task that fails again and again."""
ABSENT_SECONDS = 15.0
"""A worker that has just started answers 404 until it has read its topics; only after so long is it believed."""
POLL_SECONDS = 0.2
STOP_SECONDS = 60.0


class Connectors(Protocol):
    """What connect.Connect can do. Raises ConnectAway, ConnectRefused."""

    async def configuration(self, name: str) -> dict[str, str] | None: ...

    async def configure(self, name: str, settings: Mapping[str, str]) -> None: ...

    async def status(self, name: str) -> Status | None: ...

    async def place(self, name: str) -> int | None: ...

    async def restart(self, name: str) -> None: ...

    async def stop(self, name: str) -> None: ...

    async def resume(self, name: str) -> None: ...

    async def forget_offsets(self, name: str) -> None: ...


class ReplicationSlots(Protocol):
    """What store.slots.Slots can do. Raises StoreUnavailable."""

    async def look(self, name: str) -> Slot | None: ...

    async def drop(self, name: str) -> bool: ...


class SlotLostError(Exception):
    """The slot is lost and CATALOG_CDC_LOST_SLOT=exit."""


class NotStartedError(Exception):
    """Connector and slot were not there in time."""


class Verdict(StrEnum):
    """What a look at connector and slot says."""

    HEALTHY = "healthy"
    STARTING = "starting"
    FAILED = "failed"
    ABSENT = "absent"
    STOPPED = "stopped"
    SLOT_LOST = "slot_lost"


def judge(status: Status | None, slot: Slot | None, place: int | None) -> Verdict:
    """`place`: where in the log the connector wants to go on; None if it has been nowhere. A lost slot outranks everything.

    A slot that was dropped and made anew begins after that place: Debezium refuses it, and its task fails for good.
    """
    if slot is not None and slot.lost:
        return Verdict.SLOT_LOST
    if slot is None and place is not None:
        return Verdict.SLOT_LOST
    if status is None:
        return Verdict.ABSENT
    if status.failed:
        made_anew = slot is not None and place is not None and (slot.confirmed or 0) > place
        return Verdict.SLOT_LOST if made_anew else Verdict.FAILED
    if status.connector in (State.STOPPED, State.PAUSED):
        return Verdict.STOPPED
    return Verdict.HEALTHY if status.running and slot is not None and slot.active else Verdict.STARTING


_LEVELS = {Verdict.HEALTHY: logging.INFO, Verdict.STARTING: logging.INFO, Verdict.ABSENT: logging.WARNING}


@dataclass(slots=True)
class Sight:
    """The last look. `verdict` None: connector or database did not answer."""

    verdict: Verdict | None = None
    reason: str = ""


class Watcher:
    """One connector. Any number of watchers do no harm: what they order is idempotent."""

    def __init__(
        self,
        settings: ConnectorSettings,
        prefix: str,
        connect: Connectors,
        slots: ReplicationSlots,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._settings = settings
        self._names = Names(prefix)
        self._connect = connect
        self._slots = slots
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._restart_at = 0.0
        self._absent_since: float | None = None
        self.sight = Sight()

    async def run(self) -> None:
        """Until cancelled. Raises NotStartedError, SlotLostError, ConnectRefused."""
        await self._begin()
        while True:
            await asyncio.sleep(self._settings.cdc_watch_seconds)
            await self._guarded_step()

    async def _begin(self) -> None:
        """Registered and running, within the time that is allowed for it."""
        until = self._clock.monotonic() + self._settings.cdc_start_seconds
        registered = False
        while self.sight.verdict is not Verdict.HEALTHY:
            if self._clock.monotonic() > until:
                raise NotStartedError(f"The connector did not run in time: {self.sight.reason or self.sight.verdict}.")
            try:
                if not registered:
                    await self._register()
                    registered = True
                await self._step()
            except (ConnectAway, StoreUnavailable) as away:
                self._away(away)
            await asyncio.sleep(POLL_SECONDS)

    async def _guarded_step(self) -> None:
        try:
            await self._step()
        except (ConnectAway, StoreUnavailable) as away:
            self._away(away)

    async def _register(self, *, snapshot: str | None = None) -> None:
        """Tell Connect, if it does not know already: a change restarts the task. What was stopped is resumed."""
        settings = self._settings
        wanted = configuration(
            self._names,
            settings.cdc_database_url.get_secret_value(),
            snapshot=snapshot or settings.cdc_snapshot,
            poll_ms=settings.cdc_poll_ms,
            heartbeat_ms=settings.cdc_heartbeat_ms,
        )
        name = self._names.connector
        if await self._connect.configuration(name) != wanted | {"name": name}:
            await self._connect.configure(name, wanted)
            log.info("the connector is registered", extra={"connector": name})
        status = await self._connect.status(name)
        if status is not None and status.connector is State.STOPPED:
            await self._connect.resume(name)

    async def _step(self) -> None:
        """One look, and what follows from it. Raises ConnectAway, StoreUnavailable, SlotLostError, ConnectRefused."""
        slot = await self._slots.look(self._names.slot)
        _show_slot(slot)
        status = await self._connect.status(self._names.connector)
        metrics.CONNECT_UP.set(1)
        metrics.RUNNING.set(status is not None and status.running)
        healthy = status is not None and status.running and slot is not None
        place = None if healthy else await self._connect.place(self._names.connector)
        verdict = judge(status, slot, place)
        self._tell(verdict, status, slot)
        metrics.SLOT_LOST.set(verdict is Verdict.SLOT_LOST)
        if verdict is not Verdict.ABSENT:
            self._absent_since = None
        if verdict is Verdict.SLOT_LOST:
            await self._lost()
        elif verdict is Verdict.ABSENT:
            await self._missed()
        elif verdict is Verdict.FAILED:
            await self._restart()
        elif verdict is Verdict.HEALTHY:
            self._failures = 0

    def _tell(self, verdict: Verdict, status: Status | None, slot: Slot | None) -> None:
        reason = status.reason or "" if status is not None else ""
        if verdict is not self.sight.verdict:
            level = _LEVELS.get(verdict, logging.ERROR)
            extra = {"connector": self._names.connector, "reason": reason, "wal_status": slot and slot.wal_status}
            log.log(level, "the connector is %s", verdict.value, extra=extra)
        self.sight = Sight(verdict, reason)

    def _away(self, error: Exception) -> None:
        metrics.RUNNING.set(0)
        if isinstance(error, ConnectAway):
            metrics.CONNECT_UP.set(0)
        if self.sight.verdict is not None or not self.sight.reason:
            what = "Connect" if isinstance(error, ConnectAway) else "the database"
            log.warning("%s is away", what, extra={"error": str(error)})
        self.sight = Sight(None, str(error) or type(error).__name__)

    async def _missed(self) -> None:
        now = self._clock.monotonic()
        if self._absent_since is None:
            self._absent_since = now
        elif now - self._absent_since > ABSENT_SECONDS:
            self._absent_since = None
            await self._register()

    async def _restart(self) -> None:
        now = self._clock.monotonic()
        if now < self._restart_at:
            return
        metrics.TASK_FAILURES.inc()
        log.error(
            "the task failed and is restarted", extra={"reason": self.sight.reason, "failures": self._failures + 1}
        )
        self._restart_at = now + RESTARTS.base + RESTARTS.delay(self._failures, self._chance)
        self._failures += 1
        await self._connect.restart(self._names.connector)

    async def _lost(self) -> None:
        metrics.SLOTS_LOST.inc()
        if self._settings.cdc_lost_slot == "exit":
            raise SlotLostError("The replication slot is lost; order a snapshot: python -m services.catalog resnapshot")
        await self.resnapshot()

    async def resnapshot(self) -> None:
        """Begin anew: every product once, then the changes. Killed at any point, the same again ends the same.

        Raises ConnectAway, StoreUnavailable, ConnectRefused.
        """
        name = self._names.connector
        log.error("a new snapshot is ordered", extra={"connector": name})
        if await self._connect.configuration(name) is not None:
            await self._connect.stop(name)
            await self._stopped(name)
            await self._connect.forget_offsets(name)
        await self._dropped()
        # Whatever is set for a first start: what changed in between can only be told by a whole snapshot.
        await self._register(snapshot="initial")
        metrics.RESNAPSHOTS.inc()

    async def _stopped(self, name: str) -> None:
        until = self._clock.monotonic() + STOP_SECONDS
        while True:
            status = await self._connect.status(name)
            if status is None or (status.connector is State.STOPPED and status.task is None):
                return
            if self._clock.monotonic() > until:
                raise ConnectAway("the connector does not stop")
            await asyncio.sleep(POLL_SECONDS)

    async def _dropped(self) -> None:
        until = self._clock.monotonic() + STOP_SECONDS
        while not await self._slots.drop(self._names.slot):
            if self._clock.monotonic() > until:
                raise StoreUnavailable("somebody else reads from the slot")
            await asyncio.sleep(POLL_SECONDS)


def _show_slot(slot: Slot | None) -> None:
    metrics.SLOT_ACTIVE.set(slot is not None and slot.active)
    metrics.SLOT_LAG.set(0 if slot is None else slot.lag)
    metrics.SLOT_RETAINED.set(0 if slot is None else slot.retained)
    metrics.SLOT_SAFE.set(-1 if slot is None or slot.safe is None else slot.safe)


@asynccontextmanager
async def opened(prefix: str, settings: ConnectorSettings, clock: Clock) -> AsyncIterator[Watcher]:
    """A watcher with its connections."""
    async with (
        Connect(settings.connect_url) as connect,
        Slots(settings.cdc_database_url.get_secret_value()) as slots,
    ):
        yield Watcher(settings, prefix, connect, slots, clock, random.SystemRandom())


def create_worker(
    process: ProcessSettings, settings: ConnectorSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The process that registers and watches."""
    tasks, current = Tasks(), Current[Watcher]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with opened(process.lab_prefix, settings, clock or SystemClock()) as watcher:
            with current.holding(watcher):
                tasks.start("watcher", watcher.run())
                yield
                await tasks.stop()

    checks = {"connector": current.ready(lambda it: it.sight.verdict is Verdict.HEALTHY)}
    return service_app("catalog-connector", process, lifespan=lifespan, checks=checks), tasks


async def resnapshot(prefix: str, settings: ConnectorSettings) -> None:
    """For the command line. Raises ConnectAway, StoreUnavailable, ConnectRefused."""
    async with opened(prefix, settings, SystemClock()) as watcher:
        await watcher.resnapshot()
