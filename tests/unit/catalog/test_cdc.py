"""What follows from each look at connector and slot, with both of them played."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from services.catalog import metrics
from services.catalog.cdc import NotStartedError, SlotLostError, Verdict, Watcher, judge
from services.catalog.connect import ConnectAway, State, Status
from services.catalog.settings import ConnectorSettings
from services.catalog.store.slots import Slot
from services.kit.store import StoreUnavailable

RUNNING = Status(State.RUNNING, State.RUNNING)
FAILED = Status(State.RUNNING, State.FAILED, "out of memory")
STOPPED = Status(State.STOPPED, None)
GOOD = Slot(active=True, wal_status="reserved", confirmed=10, lag=1, retained=2, safe=None)
IDLE = Slot(active=False, wal_status="reserved", confirmed=10, lag=1, retained=2, safe=3)
LOST = Slot(active=False, wal_status="lost", confirmed=10, lag=1, retained=0, safe=None)


@pytest.mark.parametrize(
    ("status", "slot", "place", "verdict"),
    [
        (RUNNING, GOOD, 10, Verdict.HEALTHY),
        (RUNNING, IDLE, 10, Verdict.STARTING),
        (RUNNING, None, None, Verdict.STARTING),
        (RUNNING, None, 10, Verdict.SLOT_LOST),
        (RUNNING, LOST, 10, Verdict.SLOT_LOST),
        (RUNNING, LOST, None, Verdict.SLOT_LOST),
        (FAILED, None, 10, Verdict.SLOT_LOST),
        (None, None, 10, Verdict.SLOT_LOST),
        (FAILED, GOOD, 10, Verdict.FAILED),
        (FAILED, GOOD, 11, Verdict.FAILED),
        (FAILED, GOOD, 9, Verdict.SLOT_LOST),
        (RUNNING, GOOD, 9, Verdict.HEALTHY),
        (None, GOOD, 10, Verdict.ABSENT),
        (None, None, None, Verdict.ABSENT),
        (STOPPED, IDLE, 10, Verdict.STOPPED),
        (Status(State.RUNNING, State.UNASSIGNED), GOOD, 10, Verdict.STARTING),
        (Status(State.RUNNING, None), None, None, Verdict.STARTING),
    ],
)
def test_a_lost_slot_outranks_all_else(
    status: Status | None, slot: Slot | None, place: int | None, verdict: Verdict
) -> None:
    assert judge(status, slot, place) is verdict


class StillClock:
    """Moves by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class World:
    """A worker and a database that do what they are told. `log` is the order of what was done."""

    slot: Slot | None = None
    connector: dict[str, str] | None = None
    state: Status = RUNNING
    offsets: bool = False
    away: bool = False
    database_away: bool = False
    log: list[str] = field(default_factory=list)

    def _note(self, what: str) -> None:
        if self.away:
            raise ConnectAway("not_connected")
        self.log.append(what)

    async def configuration(self, name: str) -> dict[str, str] | None:
        self._note("look")
        return None if self.connector is None else self.connector | {"name": name}

    async def configure(self, name: str, settings: Mapping[str, str]) -> None:
        self._note(f"configure {settings['snapshot.mode']}")
        self.connector = dict(settings)
        if self.state.connector is not State.STOPPED:
            self._run()

    async def status(self, name: str) -> Status | None:
        self._note("status")
        return None if self.connector is None else self.state

    async def place(self, name: str) -> int | None:
        self._note("offsets")
        return 10 if self.offsets else None

    async def restart(self, name: str) -> None:
        self._note("restart")
        self.state = RUNNING

    async def stop(self, name: str) -> None:
        self._note("stop")
        self.state = STOPPED

    async def resume(self, name: str) -> None:
        self._note("resume")
        self._run()

    async def forget_offsets(self, name: str) -> None:
        assert self.state.connector is State.STOPPED, "Connect forgets offsets of a stopped connector only"
        self._note("forget")
        self.offsets = False

    async def look(self, name: str) -> Slot | None:
        if self.database_away:
            raise StoreUnavailable("ConnectionRefusedError")
        return self.slot

    async def drop(self, name: str) -> bool:
        self.log.append("drop")
        self.slot = None
        return True

    def _run(self) -> None:
        self.state, self.slot, self.offsets = RUNNING, GOOD, True

    @property
    def deeds(self) -> list[str]:
        return [what for what in self.log if what not in ("look", "status", "offsets")]


def watcher(world: World, clock: StillClock | None = None, **settings: object) -> Watcher:
    given = {
        "connect_url": "http://connect",
        "cdc_database_url": "postgresql://catalog_cdc:secret@db/catalog",
        "cdc_watch_seconds": 0.001,
        **settings,
    }
    return Watcher(ConnectorSettings(**given), "", world, world, clock or StillClock(), random.Random(1))  # type: ignore[arg-type]  # pydantic converts


async def begun(world: World, **settings: object) -> Watcher:
    made = watcher(world, None, **settings)
    await made._begin()
    world.log.clear()
    return made


async def test_a_connector_that_is_not_there_is_registered_once() -> None:
    world = World()
    made = watcher(world)
    await made._begin()
    assert made.sight.verdict is Verdict.HEALTHY
    await watcher(world)._begin()
    assert world.deeds == ["configure initial"], "the same settings again would restart the task for nothing"


async def test_changed_settings_are_told() -> None:
    world = World()
    await watcher(world)._begin()
    await watcher(world, cdc_poll_ms=50)._begin()
    assert world.deeds == ["configure initial", "configure initial"]
    assert world.connector is not None
    assert world.connector["poll.interval.ms"] == "50"


async def test_a_stopped_connector_is_resumed_at_the_start() -> None:
    world = World()
    await watcher(world)._begin()
    world.state = STOPPED
    await watcher(world)._begin()
    assert world.deeds[-1] == "resume"


@pytest.mark.parametrize("left", [None, LOST])
async def test_a_lost_slot_is_counted_and_leads_to_a_new_snapshot(left: Slot | None) -> None:
    world = World()
    made = await begun(world)
    lost, ordered = metrics.SLOTS_LOST._value.get(), metrics.RESNAPSHOTS._value.get()
    world.slot = left
    await made._step()
    assert world.deeds == ["stop", "forget", "drop", "resume"]
    assert (metrics.SLOTS_LOST._value.get(), metrics.RESNAPSHOTS._value.get()) == (lost + 1, ordered + 1)
    await made._step()
    assert made.sight.verdict is Verdict.HEALTHY
    assert metrics.SLOT_LOST._value.get() == 0


async def test_a_gap_is_closed_by_a_whole_snapshot_even_where_none_was_wanted_at_first() -> None:
    world = World()
    made = await begun(world, cdc_snapshot="no_data")
    world.slot = None
    await made._step()
    assert world.deeds == ["stop", "forget", "drop", "configure initial", "resume"]


async def test_a_slot_made_anew_behind_our_back_leads_to_a_new_snapshot() -> None:
    world = World()
    made = await begun(world)
    world.slot, world.state = replace(GOOD, active=False, confirmed=99), FAILED
    await made._step()
    assert world.deeds == ["stop", "forget", "drop", "resume"]


async def test_a_lost_slot_ends_the_process_where_that_is_wanted() -> None:
    world = World()
    made = await begun(world, cdc_lost_slot="exit")
    world.slot = LOST
    with pytest.raises(SlotLostError):
        await made._step()
    assert world.deeds == []
    assert metrics.SLOT_LOST._value.get() == 1


@pytest.mark.slow
async def test_a_slot_lost_while_nobody_watched_is_found_at_the_start() -> None:
    world = World()
    await begun(world)
    world.slot = None
    await watcher(world)._begin()
    assert world.deeds == ["stop", "forget", "drop", "resume"]


@pytest.mark.parametrize("done", [["stop"], ["stop", "forget"], ["stop", "forget", "drop"]])
async def test_a_snapshot_whose_order_was_cut_off_is_ordered_to_its_end(done: list[str]) -> None:
    world = World()
    await begun(world)
    world.slot = None if "drop" in done else LOST
    world.state, world.offsets = STOPPED, "forget" not in done
    made = watcher(world)
    await made._begin()
    assert made.sight.verdict is Verdict.HEALTHY
    assert world.slot is GOOD


async def test_a_failed_task_is_restarted_with_growing_pauses() -> None:
    world, clock = World(), StillClock()
    made = watcher(world, clock)
    await made._begin()
    world.log.clear()
    before = metrics.TASK_FAILURES._value.get()
    for _ in range(100):
        world.state = FAILED
        await made._step()
        clock.seconds += 1
    assert 4 <= world.deeds.count("restart") <= 30
    assert metrics.TASK_FAILURES._value.get() - before == world.deeds.count("restart")
    assert made.sight.reason == "out of memory"


async def test_a_connector_that_somebody_paused_stays_so() -> None:
    world = World()
    made = await begun(world)
    world.state = Status(State.PAUSED, State.PAUSED)
    await made._step()
    assert world.deeds == []
    assert made.sight.verdict is Verdict.STOPPED


async def test_a_connector_that_connect_forgot_is_registered_again() -> None:
    world, clock = World(), StillClock()
    made = watcher(world, clock)
    await made._begin()
    world.log.clear()
    world.connector = None
    world.offsets = False
    await made._step()
    clock.seconds = 10
    await made._step()
    assert world.deeds == [], "a worker that starts knows of nothing yet"
    clock.seconds = 20
    await made._step()
    assert world.deeds == ["configure initial"]


async def test_connect_or_database_away_is_seen_and_nothing_is_decided() -> None:
    world = World()
    made = await begun(world)
    world.away = True
    await made._guarded_step()
    assert made.sight.verdict is None
    assert (metrics.CONNECT_UP._value.get(), metrics.RUNNING._value.get()) == (0, 0)
    world.away, world.database_away = False, True
    await made._guarded_step()
    assert made.sight.verdict is None
    world.database_away = False
    await made._guarded_step()
    assert made.sight.verdict is Verdict.HEALTHY
    assert metrics.CONNECT_UP._value.get() == 1
    assert world.deeds == []


async def test_who_cannot_start_in_time_ends_with_the_reason() -> None:
    clock = StillClock()
    made = watcher(World(away=True), clock, cdc_start_seconds=1)

    async def later() -> None:
        await asyncio.sleep(0)
        clock.seconds = 2

    with pytest.raises(NotStartedError, match="not_connected"):
        await asyncio.gather(made._begin(), later())
