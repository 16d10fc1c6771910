"""The exercise of day 5 can be solved, and the checker sees what plausible answers get wrong. A pause, a death, no lab run."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any

import aiohttp
import asyncpg
import pytest

from labs.engine.model import Finding, Operation, Outcome, Phase, Row, Status
from labs.invariants import cron as c
from labs.week02.cron_jobs import JOBS
from labs.week02.infrastructure import ensure_database
from services.kit.clock import SystemClock
from tests.integration.labs.solutions_day5 import NewRunIds, Right, RowAfterwards, SameEpoch
from tests.integration.target.conftest import TargetProcess
from tests.servers import PostgresServer
from tests.unit.invariants.evidence import ListedEvidence

pytestmark = pytest.mark.integration

LEASE_SECONDS = 3
REMEMBERS_SECONDS = 60.0
_numbers = itertools.count(1)


@pytest.fixture
def yours(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("HTTP_PORT", "1")
    return importlib.import_module("labs.week02.yours_day5")


@dataclass
class StoreEvidence(ListedEvidence):
    """Reads the scheduler's and the target's databases."""

    databases: dict[str, asyncpg.Pool[asyncpg.Record]] = field(default_factory=dict)

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        return await self.databases[database].fetch(query, *args)


@dataclass
class Stage:
    """Two nodes, three jobs, one target. `held` stops whoever passes a failpoint first, until it is set."""

    yours: ModuleType
    solution: Right
    db: asyncpg.Pool[asyncpg.Record]
    target: asyncpg.Pool[asyncpg.Record]
    http: aiohttp.ClientSession
    jobs: list[Operation] = field(default_factory=list)

    def world(self, node: str) -> Any:
        return self.yours.World(node, LEASE_SECONDS, self.db, self.http, SystemClock())

    async def create(self, url: str) -> None:
        """Jobs whose third instant was due half a second ago and whose next one is far away."""
        for _ in range(3):
            job, key = f"job_{next(_numbers)}", f"o1-{next(_numbers):06d}"
            anchor, next_at = await self.db.fetchrow(
                "SELECT now() - interval '900.5 s' AS anchor, now() - interval '0.5 s' AS next_at"
            )  # type: ignore[misc]  # a query without FROM has a row
            await self.db.execute(
                "INSERT INTO jobs (id, name, every, url, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
                job, key, timedelta(seconds=300), url, next_at, anchor,
            )  # fmt: skip
            result = {"job": job, "anchor": anchor.isoformat(), "every_seconds": "300", "target": "both"}
            self.jobs.append(Operation(key, key, "job", Phase.INJECT, 0.0, 0.0, 0.1, 1, 201, Outcome.OK, None, result))

    async def lead(self, world: Any) -> Any:
        async with asyncio.timeout(10):
            while (lease := await self.solution.hold_lease(world)) is None:  # noqa: ASYNC110  as a node does
                await asyncio.sleep(0.02)
        return lease

    async def judged(self, invariant: Callable[[Any], Awaitable[Finding]]) -> Finding:
        evidence = StoreEvidence(history=tuple(self.jobs), databases={"cron": self.db, "target": self.target})
        return await invariant(evidence)


@asynccontextmanager
async def stage(yours: ModuleType, solution: Right, server: PostgresServer) -> AsyncIterator[Stage]:
    name = f"yours_{os.getpid()}_{next(_numbers)}"
    await ensure_database(server.url(name), JOBS + solution.tables)
    process = TargetProcess(server.url(f"{name}_target"), remembers_seconds=REMEMBERS_SECONDS)
    await asyncio.to_thread(process.start)
    try:
        async with (
            asyncpg.create_pool(server.url(name), min_size=1) as db,
            asyncpg.create_pool(process.database_url, min_size=1) as target,
            aiohttp.ClientSession() as http,
        ):
            scene = Stage(yours, solution, db, target, http)
            await scene.create(f"{process.url}/v1/effects")
            yield scene
    finally:
        assert await asyncio.to_thread(process.stop) == 0


async def forgotten(scene: Stage) -> None:
    """As if the time had passed after which the target has forgotten the runs that it applied so far."""
    await scene.target.execute("UPDATE applied_runs SET at = at - make_interval(secs => $1)", REMEMBERS_SECONDS)


async def a_leader_comes_back(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first node stands still before its first effect until its successor has done everything and the target forgot."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def stand_still(name: str, subject: str = "") -> None:
        if name == "cron.before_effect" and not reached.is_set():
            reached.set()
            await released.wait()

    monkeypatch.setattr(scene.yours, "failpoint", stand_still)
    first, second = scene.world("first"), scene.world("second")
    ghost = asyncio.create_task(scene.solution.fire_due(first, await scene.lead(first)))
    async with asyncio.timeout(30):
        await reached.wait()
    await scene.solution.fire_due(second, await scene.lead(second))
    await forgotten(scene)
    released.set()
    await ghost
    await scene.solution.fire_due(second, await scene.lead(second))


async def a_leader_dies(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first node dies after its first effect and before it has written anything about it."""

    class DeathError(Exception):
        pass

    died = False

    async def die_once(name: str, subject: str = "") -> None:
        nonlocal died
        if name == "cron.after_effect" and not died:
            died = True
            raise DeathError

    monkeypatch.setattr(scene.yours, "failpoint", die_once)
    first, second = scene.world("first"), scene.world("second")
    with pytest.raises(DeathError):
        await scene.solution.fire_due(first, await scene.lead(first))
    await scene.solution.fire_due(second, await scene.lead(second))


INVARIANTS = (c.no_double_effect, c.effects_agree_with_rows, c.no_effect_of_a_deposed_leader)
PLAYS = {"a leader comes back": a_leader_comes_back, "a leader dies": a_leader_dies}


async def broken_by(
    kind: type[Right], play: str, yours: ModuleType, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> set[str]:
    async with stage(yours, kind(yours), server) as scene:
        await PLAYS[play](scene, monkeypatch)
        found = {one.__name__: (await scene.judged(one)).status for one in INVARIANTS}
        rows = await scene.db.fetch("SELECT job_id FROM runs GROUP BY job_id, scheduled_for HAVING count(*) > 1")
        return {name for name, status in found.items() if status is Status.BROKEN} | ({"rows"} if rows else set())


@pytest.mark.parametrize("play", PLAYS)
async def test_the_right_answer_holds(
    play: str, yours: ModuleType, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await broken_by(Right, play, yours, postgres_server, monkeypatch) == set()


@pytest.mark.parametrize(
    ("kind", "play", "broken"),
    [
        (SameEpoch, "a leader comes back", {"no_double_effect"}),
        (NewRunIds, "a leader dies", {"no_double_effect"}),
        (RowAfterwards, "a leader comes back", {"rows"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_plausible_wrong_answer_is_seen(
    kind: type[Right],
    play: str,
    broken: set[str],
    yours: ModuleType,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await broken_by(kind, play, yours, postgres_server, monkeypatch) >= broken


async def test_the_stub_fires_nothing(yours: ModuleType) -> None:
    world = yours.World("first", LEASE_SECONDS, None, None, SystemClock())
    assert await yours.hold_lease(world) is None
    with pytest.raises(NotImplementedError, match="Write fire_due"):
        await yours.fire_due(world, yours.Lease(1, 0.0))
