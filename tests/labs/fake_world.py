"""A world without servers: a runtime, stores and faults that do what a test tells them."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import aiohttp
from rich.console import Console

from infra.runtime import Edge, ProcessIdentity, Progress, Runtime, RuntimeProblem, ServiceStatus
from labs.engine import Discriminates, Evidence, Finding, Lab, Load, Variant, VariantRole, at, error_rate, p99
from labs.engine.clock import RunClock
from labs.engine.files import VerdictFile, read
from labs.engine.model import (
    FaultContext,
    FaultRecord,
    HealFailedError,
    Invariant,
    Json,
    NotApplicableError,
    Operation,
    Outcome,
    Receipt,
    Row,
    StoryLine,
    TopicRecord,
)
from labs.engine.run import Options, run_labs
from labs.engine.timing import Timing

SCRIPT = Path(__file__).parent / "scripted_load.py"
TIMING = Timing(control=0.2, baseline=0.4, inject=0.4, scale=1.0, budget=30)
INFRASTRUCTURE = ("postgres", "kafka")
PORTS = {"naive": 7001, "engineered": 7002, "bank": 7003, "postgres": 7004, "kafka": 7005}


@dataclass
class FakeRuntime:
    """Implements infra.runtime.Runtime in memory. `broken` services never start."""

    name: str = "fake"
    project: str = "test"
    running: dict[str, ProcessIdentity] = field(default_factory=dict)
    envs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    exited: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    lives: int = 0
    links: tuple[str, ...] = ()

    def up(
        self,
        services: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        timeout: float = 120.0,
    ) -> None:
        if progress is not None:
            progress("starting")
        for service in services:
            if service in self.broken:
                raise RuntimeProblem(f"{service} exited with code 1 before it was healthy.")
            if service not in self.running:
                self.envs[service] = dict(env or {})
                self.start(service)

    def start(self, service: str, *, wait: bool = True, timeout: float = 60.0) -> ProcessIdentity:
        self.calls.append(f"start {service}")
        if service in self.broken:
            raise RuntimeProblem(f"{service} exited with code 1 before it was healthy.")
        self.lives += 1
        self.running[service] = ProcessIdentity(service, 1000 + self.lives, float(self.lives), service)
        return self.running[service]

    def stop(self, service: str, *, timeout: float | None = None) -> None:
        self.running.pop(service, None)

    def restart(self, service: str, *, wait: bool = True) -> ProcessIdentity:
        self.stop(service)
        return self.start(service)

    def kill(self, service: str) -> ProcessIdentity:
        self.calls.append(f"kill {service}")
        return self.running.pop(service)

    def pause(self, service: str) -> ProcessIdentity:
        self.calls.append(f"pause {service}")
        self.paused.add(service)
        return self.running[service]

    def resume(self, service: str) -> ProcessIdentity:
        self.calls.append(f"resume {service}")
        self.paused.discard(service)
        return self.running[service]

    def stands_still(self, service: str) -> bool:
        return service in self.paused

    def cut(self, service: str) -> ProcessIdentity:
        self.calls.append(f"cut {service}")
        return self.running[service]

    def uncut(self, service: str) -> ProcessIdentity | None:
        self.calls.append(f"uncut {service}")
        return self.running.get(service)

    def scale(self, service: str, count: int) -> None:
        raise NotImplementedError

    def forget(self, service: str) -> None:
        self.calls.append(f"forget {service}")
        self.running.pop(service, None)

    def identity(self, service: str) -> ProcessIdentity | None:
        return self.running.get(service)

    def healthy(self, service: str) -> bool:
        return service in self.running and service not in self.paused

    def status(self) -> list[ServiceStatus]:
        rows = [(service, "running") for service in self.running] + [(service, "exited") for service in self.exited]
        return [ServiceStatus(service, state, 1, 1, None, None, None, None, 0, "") for service, state in rows]

    def logs(self, service: str, *, lines: int = 50) -> list[str]:
        return []

    def address(self, service: str) -> tuple[str, int]:
        return "127.0.0.1", PORTS[service]

    def variable(self, name: str) -> str:
        return "secret"

    def edges(self) -> dict[str, Edge]:
        return {name: Edge(name, "client", "server", "1", "server:1") for name in self.links}

    def beside(self, service: str) -> list[str]:
        return [sys.executable]

    def down(self, *, progress: Progress | None = None) -> None:
        self.calls.append("down")
        self.running.clear()


@dataclass(frozen=True)
class FakeEvidence:
    """`sql` gives the keys in the store of the variant, whatever is asked."""

    scenario: str
    variant_name: str
    variant: Variant
    history: tuple[Operation, ...]
    faults: tuple[FaultRecord, ...]
    world: Path
    clock: RunClock
    window: tuple[float, float]

    def moment(self, at: float) -> datetime:
        return self.clock.wall_of(at)

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        path = self.world / f"store-{PORTS[self.variant.roles['sut']]}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    async def topic(self, name: str) -> tuple[TopicRecord, ...]:
        raise NotApplicableError(f"{self.variant_name} has no topic {name}")

    async def metric(self, promql: str) -> float | None:
        return 7.0

    async def engine(
        self, path: str, body: Mapping[str, Json] | None = None, *, nodes: Sequence[str] = ("search-engine",)
    ) -> Json:
        raise NotApplicableError(f"{self.variant_name} has no {path}")

    def since_start(self, moment: datetime) -> float:
        return self.clock.from_wall(moment)


@dataclass
class FakePlatform:
    world: Path
    clock: RunClock
    dropped: list[str | None]

    def evidence(
        self,
        *,
        scenario: str,
        variant_name: str,
        variant: Variant,
        history: Sequence[Operation],
        faults: Sequence[FaultRecord],
        prefix: str,
        window: tuple[float, float],
    ) -> Evidence:
        return FakeEvidence(
            scenario, variant_name, variant, tuple(history), tuple(faults), self.world, self.clock, window
        )

    async def drop(self, *, prefix: str | None = None, keep: str | None = None) -> str:
        self.dropped.append(prefix)
        for store in self.world.glob("store-*.jsonl"):
            store.unlink()
        return ""


@dataclass(frozen=True)
class FlagFault:
    """Lies in the world as a file while it lasts; the scripted load looks at it."""

    world: Path
    proven: bool = True
    heals: bool = True
    crashes: bool = False
    lasting: float = 0.3
    kind: str = "flag"
    role: str = "sut"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        return {"share": 1.0}

    def target(self, ctx: FaultContext) -> str:
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> object:
        if self.crashes:
            raise KeyError("a mistake in the fault")
        (self.world / "fault").touch()
        return None

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        return Receipt(self.proven, "12 requests were hit" if self.proven else "no request was hit", {"hits": 12})

    async def heal(self, ctx: FaultContext) -> None:
        (self.world / "fault").unlink(missing_ok=True)
        if not self.heals:
            raise HealFailedError("the flag is still up")


async def found(evidence: Evidence) -> Mapping[str, int]:
    return Counter(str(row["key"]) for row in await evidence.sql("store", "keys"))


async def exactly_once(evidence: Evidence) -> Finding:
    """Each acknowledged operation is in the store exactly once."""
    counts = await found(evidence)
    return Finding.of([one.key for one in evidence.history if one.outcome is Outcome.OK and counts[one.key] != 1])


async def nothing_contradicted(evidence: Evidence) -> Finding:
    """Nobody was told that it failed whose operation is in the store."""
    counts = await found(evidence)
    return Finding.of([one.key for one in evidence.history if one.outcome is Outcome.FAIL and counts[one.key]])


async def throws(evidence: Evidence) -> Finding:
    """A checker with a mistake, on the run with the fault only: it must not fail the control."""
    if evidence.faults:
        raise ZeroDivisionError("a mistake in the checker")
    return Finding.of([])


async def ledger(evidence: Evidence) -> Finding:
    """Needs a table that the naive variant lacks."""
    if evidence.variant_name == "naive":
        raise NotApplicableError("naive has no table ledger")
    return Finding.of([])


async def tell(evidence: Evidence, offender: str) -> Sequence[StoryLine]:
    operation = next(one for one in evidence.history if one.key == offender)
    return [
        StoryLine(operation.intended_at + 0.001, "bank", f"charges {offender}"),
        StoryLine(operation.intended_at + 0.002, "bank", f"charges {offender} again"),
    ]


VARIANTS = {
    "naive": Variant(
        role=VariantRole.NAIVE, roles={"sut": "naive", "bank": "bank"}, processes=("bank", "naive"), title="naive"
    ),
    "engineered": Variant(
        role=VariantRole.ENGINEERED, roles={"sut": "engineered", "bank": "bank"}, processes=("bank", "engineered")
    ),
}


@dataclass
class FakeLab:
    """A lab in a folder of its own. `bugs` is what each variant does while the fault lasts (or "always")."""

    root: Path
    bugs: Mapping[str, Mapping[str, str]] = field(
        default_factory=lambda: {"naive": {"fault": "duplicate"}, "engineered": {}}
    )
    runtime: FakeRuntime = field(default_factory=FakeRuntime)
    dropped: list[str | None] = field(default_factory=list)
    output: io.StringIO = field(default_factory=io.StringIO)
    timing: Timing = TIMING

    def __post_init__(self) -> None:
        self.world.mkdir()

    @property
    def world(self) -> Path:
        return self.root / "world"

    @property
    def text(self) -> str:
        return self.output.getvalue()

    def lab(
        self, *, fault: FlagFault | None = None, invariants: tuple[Invariant, ...] = (nothing_contradicted,)
    ) -> Lab:
        return Lab(
            week=9,
            day=9,
            title="A fake day",
            question="What breaks when nothing is real?",
            hypothesis="The naive variant doubles.",
            explanation="It has no key.",
            variants=VARIANTS,
            load=Load(str(SCRIPT), rate=100, seconds=60, options=("--world", str(self.world))),
            steady_state=(error_rate(below=0.01), p99(below_ms=250)),
            faults=(at(0.05, fault or FlagFault(self.world)),),
            invariants=(exactly_once, *invariants),
            discriminates=Discriminates(exactly_once, at_least=5),
            infrastructure=INFRASTRUCTURE,
            found=found,
            story=tell,
            try_next=("Take the fault away.",),
        )

    async def run(self, lab: Lab | None = None, options: Options | None = None) -> int:
        return await self.run_all([lab or self.lab()], options)

    async def run_all(self, labs: Sequence[Lab], options: Options | None = None) -> int:
        described = {str(PORTS[name]): dict(bugs) for name, bugs in self.bugs.items()}
        (self.world / "world.json").write_text(json.dumps(described))
        return await run_labs(
            labs,
            options or Options(),
            runtime=checked(self.runtime),
            root=self.root,
            console=Console(file=self.output, width=140, force_terminal=False),
            platform=self._platform,
            generator=(sys.executable,),
            timing=self.timing,
        )

    def _platform(self, runtime: Runtime, session: aiohttp.ClientSession, clock: RunClock) -> FakePlatform:
        return FakePlatform(self.world, clock, self.dropped)

    @property
    def folder(self) -> Path:
        return self.root / ".lab" / "runs" / "week09-day9" / "latest"

    @property
    def verdict(self) -> VerdictFile:
        return read(self.folder / "verdict.json", VerdictFile)


def checked(runtime: FakeRuntime) -> Runtime:
    return runtime


def with_variants(lab: Lab, **variants: Variant) -> Lab:
    return replace(lab, variants=variants)
