"""A whole soak on a world without servers: each planted mistake must give the right verdict."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import jsonschema
import msgspec
import pytest
from rich.console import Console

from infra.runtime import ServiceStatus
from labs.engine import Evidence, Finding, Load, Settled, at
from labs.engine.clock import RunClock
from labs.engine.display import PlainDisplay
from labs.engine.files import FILES, VerdictFile, read, schema_path, write
from labs.engine.model import FaultContext, Invariant, Outcome, Phase, PrepareFailedError, Row, Verdict
from labs.engine.timing import Timing
from labs.engine.world import World
from labs.soak import growth, results
from labs.soak import house as soaking
from labs.soak.house import House
from labs.soak.judging import HOUSE_NAME, Judged, judge
from labs.soak.report import write_report
from labs.soak.summary import show
from labs.soak.systems import HOUSE, PROCESSES, SYSTEMS, Source, System
from labs.soak.timing import SoakTiming
from tests.labs.fake_world import FakeEvidence, FakePlatform, FakeRuntime, FlagFault, checked

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).parent / "soak_load.py")
TIMING = SoakTiming(minutes=0.08, warm_up=0.2, baseline=0.6, hold=0.8, rest=0.1, every=0.1)


class Runtime(FakeRuntime):
    """Every service has the same address, and `status` tells who runs."""

    def address(self, service: str) -> tuple[str, int]:
        return "127.0.0.1", 7001

    def status(self) -> list[ServiceStatus]:
        return [replace(row, memory_bytes=50 << 20, started_at=1.0, pid=os.getpid()) for row in super().status()]


@dataclass(frozen=True)
class SoakEvidence(FakeEvidence):
    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        path = self.world / "done.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass
class SoakPlatform(FakePlatform):
    def evidence(self, **about: object) -> Evidence:
        return SoakEvidence(
            **{name: value for name, value in about.items() if name != "prefix"},  # type: ignore[arg-type]
            world=self.world,
            clock=self.clock,
        )


async def nothing_is_lost(evidence: Evidence) -> Finding:
    """What was acknowledged has been done."""
    done = {str(row["key"]) for row in await evidence.sql("things", "all")}
    return Finding.of([one.key for one in evidence.history if one.outcome is Outcome.OK and one.key not in done])


async def throws(_: Evidence) -> Finding:
    """A checker with a mistake."""
    raise ZeroDivisionError("a mistake in the checker")


async def failover_in_time(evidence: Evidence) -> Finding:
    """As the real one of this name, it judges by the clock."""
    return Finding.of(["too slow"] if evidence.faults else [])


async def never(_: Evidence) -> str:
    return "7 things are still open"


async def at_once(_: Evidence) -> str:
    return ""


async def ready(_: FaultContext) -> str:
    return "10 things are there"


@dataclass
class FakeSoak:
    root: Path
    runtime: Runtime = field(default_factory=Runtime)
    fault: FlagFault | None = None
    invariants: tuple[Invariant, ...] = (nothing_is_lost,)
    settled: Settled = field(default_factory=lambda: Settled("all_is_done", at_once, within=0.2))
    output: io.StringIO = field(default_factory=io.StringIO)
    dropped: list[str | None] = field(default_factory=list)
    house: House = field(init=False)
    judged: Judged = field(init=False)

    def __post_init__(self) -> None:
        self.world.mkdir()
        self.folder.mkdir()

    @property
    def world(self) -> Path:
        return self.root / "world"

    @property
    def folder(self) -> Path:
        return self.root / "run"

    def says(self, what: str) -> None:
        (self.world / what).touch()

    def systems(self) -> tuple[System, ...]:
        first = System("one", "the first", ("one", "two"), self.invariants, (self.settled,))
        return first, System("two", "the second", ("two",), (nothing_is_lost,))

    def sources(self) -> tuple[Source, ...]:
        options = ("--world", str(self.world), "--run")
        return tuple(
            Source(name, "payments-api", name, Load(SCRIPT, rate=40, options=(*options, name), grows=name == "two"))
            for name in ("one", "two")
        )

    async def run(self, prepare: object = ready) -> Verdict:
        clock = RunClock()
        console = Console(file=self.output, width=140, force_terminal=False)
        async with aiohttp.ClientSession(trust_env=False) as session:
            world = World(
                runtime=checked(self.runtime),
                platform=SoakPlatform(self.world, clock, self.dropped),
                session=session,
                clock=clock,
                display=PlainDisplay(console),
                timing=Timing(0, 0, 0, 1.0, 0),
                seed=3,
                root=self.root,
                folder=self.folder,
                generator=(sys.executable,),
            )
            fault = self.fault or FlagFault(self.world, role="payments-api")
            self.house = House(
                world,
                TIMING,
                [at(0.1, fault)],
                prepare=prepare,  # type: ignore[arg-type]
                systems=self.systems(),
                sources=self.sources(),
            )
            try:
                await self.house.run()
                self.judged = await judge(self.house, TIMING.minutes)
            finally:
                await self.house.leave()
            document = results.write_all(world, self.house.outcome, self.judged, ["full disk of kafka: no root"])
            write(self.folder / "experiment.json", results.experiment_file(world, TIMING, ()))
            write_report(self.folder, outcome=self.house.outcome, document=document)
            show(console, world, self.house.outcome, self.judged, ["full disk of kafka: no root"])
        return self.judged.judgement.verdict

    @property
    def reasons(self) -> str:
        return " ".join(self.judged.judgement.reasons)

    @property
    def document(self) -> VerdictFile:
        return read(self.folder / "verdict.json", VerdictFile)


@pytest.fixture
def soak(tmp_path: Path) -> FakeSoak:
    return FakeSoak(tmp_path)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soaking, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(soaking, "STEADY_AGAIN_SECONDS", 0.5)
    monkeypatch.setattr(growth, "FEWEST_SAMPLES", 1)  # a quarter of this load is a second


async def test_a_soak_in_which_everything_holds_is_a_pass_with_every_file(soak: FakeSoak) -> None:
    assert await soak.run() is Verdict.PASS, soak.reasons
    assert soak.document.verdict is Verdict.PASS
    assert list(soak.document.variants) == ["one", "two", HOUSE_NAME]
    assert [one.phase for one in soak.house.outcome.phases] == [
        Phase.PREFLIGHT, Phase.CONTROL, Phase.BASELINE, Phase.INJECT, Phase.HEAL, Phase.HOLD, Phase.SETTLE,
    ]  # fmt: skip
    assert "nothing_is_lost" in soak.output.getvalue()
    assert set(PROCESSES) <= set(soak.runtime.envs)


async def test_every_file_fits_the_schema_of_the_labs(soak: FakeSoak) -> None:
    await soak.run()
    for name in FILES:
        schema = msgspec.json.decode(schema_path(name).read_bytes())
        path = soak.folder / name
        texts = path.read_text().splitlines() if name.endswith(".jsonl") else [path.read_text()]
        for text in texts:
            jsonschema.validate(msgspec.json.decode(text), schema)


async def test_the_report_is_one_file_that_works_offline(soak: FakeSoak) -> None:
    await soak.run()
    html = (soak.folder / "report.html").read_text()
    assert len(html.encode()) < 1_000_000
    assert html.count("<svg") == 1
    assert "12 requests were hit" in html
    assert "full disk of kafka: no root" in html
    assert "src=" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")


async def test_a_lost_operation_fails_the_systems_that_saw_it_and_is_named(soak: FakeSoak) -> None:
    soak.says("two-loses")
    assert await soak.run() is Verdict.FAIL
    for system in ("one", "two"):
        part = soak.document.variants[system].invariants["nothing_is_lost"]
        assert part.offenders
        assert all(key.startswith("two-") for key in part.offenders)


async def test_each_system_is_judged_by_the_operations_of_its_own_sources(soak: FakeSoak) -> None:
    soak.says("one-loses")
    assert await soak.run() is Verdict.FAIL
    assert soak.document.variants["two"].verdict is Verdict.PASS


async def test_a_checker_that_throws_gives_unknown(soak: FakeSoak) -> None:
    soak.invariants = (throws,)
    assert await soak.run() is Verdict.UNKNOWN
    assert "ZeroDivisionError" in soak.reasons


async def test_a_fault_without_receipt_gives_unknown(soak: FakeSoak) -> None:
    soak.fault = FlagFault(soak.world, proven=False, role="payments-api")
    assert await soak.run() is Verdict.UNKNOWN
    assert "has no receipt" in soak.reasons


async def test_a_heal_that_fails_gives_unknown(soak: FakeSoak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labs.engine.schedule.HEAL_ATTEMPTS", 2)
    soak.fault = FlagFault(soak.world, heals=False, role="payments-api")
    assert await soak.run() is Verdict.UNKNOWN
    assert "heal failed" in soak.reasons


async def test_a_process_that_died_by_itself_fails_the_house(soak: FakeSoak) -> None:
    soak.runtime.exited.add("payments-relay")
    assert await soak.run() is Verdict.FAIL
    assert "lost a process: payments-relay" in soak.reasons


async def test_what_does_not_settle_in_its_time_is_a_failure(soak: FakeSoak) -> None:
    soak.settled = Settled("all_is_done", never, within=0.2)
    assert await soak.run() is Verdict.FAIL
    assert "7 things are still open" in soak.reasons
    assert soak.house.outcome.recovery_seconds is None


async def test_a_baseline_that_is_not_steady_gives_unknown_and_injects_nothing(soak: FakeSoak) -> None:
    soak.says("fails")
    assert await soak.run() is Verdict.UNKNOWN
    assert "nothing was injected" in soak.reasons
    assert not soak.house.outcome.faults


async def test_a_slow_generator_gives_unknown(soak: FakeSoak) -> None:
    soak.says("two-late")
    assert await soak.run() is Verdict.UNKNOWN
    assert "the run measured the generator" in soak.reasons


async def test_a_generator_that_dies_gives_unknown_and_all_is_taken_back(soak: FakeSoak) -> None:
    soak.fault = FlagFault(soak.world, lasting=30, role="payments-api")
    running = asyncio.create_task(soak.run())
    await until(soak.world / "fault")
    soak.says("one-dies")
    assert await running is Verdict.UNKNOWN
    assert "the load generator ended by itself" in soak.reasons
    assert not (soak.world / "fault").exists()


async def test_clients_that_are_not_served_again_are_a_failure(soak: FakeSoak) -> None:
    soak.fault = FlagFault(soak.world, role="payments-api")
    running = asyncio.create_task(soak.run())
    await until(soak.world / "fault")
    soak.says("two-fails")
    assert await running is Verdict.FAIL
    assert "steady_again" in soak.reasons


async def test_what_the_clock_condemns_on_a_busy_machine_is_unknown(soak: FakeSoak) -> None:
    soak.invariants = (failover_in_time,)
    running = asyncio.create_task(soak.run())
    await until(soak.world / "fault")
    soak.says("two-late")
    assert await running is Verdict.UNKNOWN
    assert "the machine was busy" in soak.reasons


async def test_what_cannot_be_prepared_gives_unknown(soak: FakeSoak) -> None:
    async def refuses(_: FaultContext) -> str:
        raise PrepareFailedError("endpoint 3 was not registered")

    assert await soak.run(refuses) is Verdict.UNKNOWN
    assert "endpoint 3 was not registered" in soak.reasons


async def test_a_process_that_does_not_start_gives_unknown_and_the_rest_is_stopped(soak: FakeSoak) -> None:
    soak.runtime.broken.add("search-api")
    assert await soak.run() is Verdict.UNKNOWN
    assert "search-api" in soak.reasons
    assert not soak.runtime.running


async def test_an_interruption_takes_the_faults_back_and_leaves_nothing(soak: FakeSoak) -> None:
    soak.fault = FlagFault(soak.world, lasting=30, role="payments-api")
    running = asyncio.create_task(soak.run())
    await until(soak.world / "fault")
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not (soak.world / "fault").exists()
    assert not soak.runtime.running
    assert soak.dropped == [soak.house.outcome.prefix]


async def until(path: Path) -> None:
    """Until a file is there, for half a minute at most."""
    async with asyncio.timeout(30):
        while not path.exists():  # noqa: ASYNC110, ASYNC240  another process makes it
            await asyncio.sleep(0.01)


def test_the_real_systems_and_the_house_go_together() -> None:
    assert {system.name for system in SYSTEMS}.isdisjoint({HOUSE_NAME})
    assert HOUSE.processes == PROCESSES
