"""The soak itself: everything is started, loaded, broken, healed, left to settle, and measured all the while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from infra.runtime import RuntimeProblem
from labs.engine.blocking import blocking, up
from labs.engine.cleanup import new_prefix
from labs.engine.display import Tick
from labs.engine.generator_check import generator_problem, lag_p99_ms
from labs.engine.load import LoadProblem, PhaseStart
from labs.engine.model import (
    Evidence,
    EvidenceError,
    FaultContext,
    FaultRecord,
    NotApplicableError,
    Operation,
    Phase,
    Prepare,
    PrepareFailedError,
    Probe,
    ScheduledFault,
    Settled,
)
from labs.engine.probing import probe
from labs.engine.schedule import TROUBLE, FaultPlan, describe, unproven
from labs.engine.steady import error_rate, p99
from labs.engine.trial import ProbeRecord
from labs.engine.world import StorePlatform, TrialContext, World
from labs.soak import sizes
from labs.soak.loads import Loads, all_of, between
from labs.soak.samples import Sample, Sampler
from labs.soak.sizes import Sizes
from labs.soak.systems import FIRST_JOBS_SECONDS, HOUSE, INFRASTRUCTURE, SOURCES, STARTS, SYSTEMS, Source, System
from labs.soak.timing import SoakTiming
from labs.week02.webhook_endpoints import register_all
from labs.week07.catalogue import index_is_full, warmed
from loadtests.latency import LAG_LIMIT_MS

STEADY = (error_rate(below=0.02), p99(below_ms=2000))
STEADY_AGAIN = error_rate(below=0.05)
STEADY_AGAIN_SECONDS = 8.0
PREPARE_SECONDS = 180.0
TICK_SECONDS = 0.5
POLL_SECONDS = 1.0
HEALTHY_WITHIN_SECONDS = 60.0
WHO = "all"
KEPT_LOG_LINES = 300


async def set_up(ctx: FaultContext) -> str:
    """A thousand endpoints, and an index that holds the whole catalogue."""
    endpoints = await register_all(ctx)
    index = await warmed(index_is_full("search-engine"), "search-api")(ctx)
    return f"{endpoints}; {index}"


class InconclusiveError(Exception):
    """The soak cannot go on; the verdict is unknown for this reason."""


@dataclass(slots=True)
class Outcome:
    """All that is known of a soak. `load` is from the beginning of the baseline to the end of the load, seconds of the run."""

    prefix: str
    phases: list[PhaseStart] = field(default_factory=list)
    history: dict[str, list[Operation]] = field(default_factory=dict)
    faults: tuple[FaultRecord, ...] = ()
    samples: list[Sample] = field(default_factory=list)
    sizes: dict[str, Sizes] = field(default_factory=dict)
    probes: list[ProbeRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unsettled: dict[str, list[str]] = field(default_factory=dict)
    crashed: list[str] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)
    recovery_seconds: float | None = None
    prepared: str = ""

    def lag_ms(self) -> float | None:
        """How late the generators sent during the load, p99 over all of them."""
        return lag_p99_ms(between(all_of(self.history, list(self.history)), *self.load))

    @property
    def disturbed(self) -> str:
        """A sentence if the machine could not keep time during the load, else ""."""
        lag = self.lag_ms()
        if lag is None or lag <= LAG_LIMIT_MS:
            return ""
        return f"the generators sent late (p99 {lag:.0f} ms, limit {LAG_LIMIT_MS:.0f} ms): the machine was busy"


class House:
    """Runs once. `run` always takes faults back; `leave` stops what it has started.

    `prepare`, `systems` and `sources` are for tests.
    """

    def __init__(
        self,
        world: World,
        timing: SoakTiming,
        faults: Sequence[ScheduledFault],
        *,
        prepare: Prepare | None = None,
        systems: Sequence[System] = SYSTEMS,
        sources: Sequence[Source] = SOURCES,
    ) -> None:
        self._world = world
        self._timing = timing
        self._set_up = prepare or set_up
        self.systems = systems
        self._sources = sources
        self.outcome = Outcome(new_prefix())
        self._variables = {**HOUSE.environment, "LAB_PREFIX": self.outcome.prefix}
        self._context = TrialContext(world, HOUSE, variables=self._variables)
        self._plan = FaultPlan(faults, self._context, self._context.resolved)
        self._sampler = Sampler(world.runtime, world.clock.now, timing.sample_every)
        self._began = 0.0
        self._tick = Tick()
        self._loads: Loads | None = None

    async def run(self) -> Outcome:
        """Everything but judging. Raises only CancelledError, after all is taken back."""
        sampling = asyncio.create_task(self._sampler.run(), name="samples")
        try:
            await self._phases()
        except InconclusiveError as reason:
            self.outcome.problems.append(str(reason))
        except (LoadProblem, RuntimeProblem) as reason:
            self.outcome.problems.append(str(reason))
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
            self.outcome.samples = self._sampler.samples
            await self._take_back()
        return self.outcome

    async def _phases(self) -> None:
        async with self._phase(Phase.PREFLIGHT):
            await self.start()
            await self._prepare()
        await self._measure("start")
        async with Loads(self._world, self._context, self._timing.load, self._sources) as loads:
            self._loads = loads
            try:
                await self._loaded(loads)
            finally:
                self.outcome.history = loads.history(self.outcome.phases)
        self._loads = None
        await self._measure("end")
        async with self._phase(Phase.SETTLE):
            await self._settle()
            await self._measure("settled")
            self._note("at rest")
            await self._for(self._timing.rest)
            await self._sampler.once()
            await self._measure("rest")

    async def _loaded(self, loads: Loads) -> None:
        async with self._phase(Phase.CONTROL, self._timing.warm_up):
            await loads.started()
            slowing = asyncio.create_task(self._slow_down(loads), name="fewer jobs")
            await self._for(self._timing.warm_up)
        try:
            async with self._phase(Phase.BASELINE, self._timing.baseline):
                await self._baseline(loads)
            await self._break()
            async with self._phase(Phase.HEAL):
                await self._heal()
            healed_at = self._world.clock.now()
            async with self._phase(Phase.HOLD, self._timing.hold):
                await self._for(self._timing.hold)
                self.outcome.load = (self.outcome.load[0], self._world.clock.now())
                await loads.stop()
            self.outcome.history = loads.history(self.outcome.phases)
            self._steady_again(healed_at)
        finally:
            slowing.cancel()
            await asyncio.wait([slowing])

    # --- before -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Fresh processes on databases and topics of their own, one system after the other."""
        if left := await self._stop_all():
            raise InconclusiveError(f"what an earlier run has left could not be stopped: {left[0]}")
        for group in STARTS:
            await self._while_waiting(up(self._world.runtime, group, self._note, env=self._variables))

    async def _prepare(self) -> None:
        self._note("preparing")
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                self.outcome.prepared = await self._set_up(self._context)
        except (PrepareFailedError, *TROUBLE) as reason:
            raise InconclusiveError(f"it could not be prepared: {describe(reason)}") from reason

    async def _baseline(self, loads: Loads) -> None:
        """Every source is steady, and every generator can be believed; else nothing is injected."""
        start, before = self._world.clock.now(), loads.cpu_seconds()
        await self._for(self._timing.baseline)
        end, after = self._world.clock.now(), loads.cpu_seconds()
        await self._for(POLL_SECONDS)
        self.outcome.load = (start, end)
        history = loads.history(self.outcome.phases)
        everything = between(all_of(history, list(history)), start, end)
        busiest = max((after[name] - before[name]) / (end - start) for name in after)
        if problem := generator_problem(everything, busiest):
            raise InconclusiveError(problem)
        for name, operations in history.items():
            window = between(operations, start, end)
            for found in [one.check(window) for one in STEADY]:
                self._keep(Phase.BASELINE, found, name)
                if not found.ok:
                    value = "no value" if found.value is None else f"{found.value:.4g} {found.unit}"
                    raise InconclusiveError(
                        f"baseline: {name} was not steady before any fault ({found.name} {value}, limit {found.limit:g}); "
                        "nothing was injected"
                    )

    # --- faults -------------------------------------------------------------------------------------------------------

    async def _break(self) -> None:
        """All faults at their times; each is healed when its time is over."""
        work = asyncio.create_task(self._plan.run(), name="faults")
        try:
            async with self._phase(Phase.INJECT, self._timing.inject):
                await self._for(self._timing.inject)
                await self._while_waiting(work)
        finally:
            work.cancel()
            await asyncio.wait([work])

    async def _heal(self) -> None:
        failed = await self._plan.heal_all()
        self.outcome.faults = self._plan.records
        self.outcome.problems += unproven(self.outcome.faults)
        if failed:
            raise InconclusiveError(f"heal failed, so nothing after it was judged: {'; '.join(failed)}")

    async def _slow_down(self, loads: Loads) -> None:
        await asyncio.sleep(FIRST_JOBS_SECONDS)
        loads.slow_down()

    # --- after --------------------------------------------------------------------------------------------------------

    def _steady_again(self, healed_at: float) -> None:
        """The last seconds of the load: clients are served as before the faults."""
        end = self.outcome.load[1]
        start = max(healed_at, end - STEADY_AGAIN_SECONDS)
        for system in self.systems:
            window = between(all_of(self.outcome.history, system.sources), start, end)
            found = STEADY_AGAIN.check(window)
            self._keep(Phase.HOLD, found, system.name)
            if window.operations and not found.ok:
                self._open(system.name, f"steady_again (errors {found.value or 0:.1%} in the last {end - start:.0f} s)")

    async def _settle(self) -> None:
        """Ask every probe of every system until it is settled or its bound is over."""
        begun = self._world.clock.now()
        waiting = [(system, one) for system in self.systems for one in (*system.settled, *self._healthy(system))]
        while waiting:
            for system, one in list(waiting):
                asked = self._world.clock.now() - begun
                result = await probe(one, self.evidence(system))
                if result.crashed:
                    raise InconclusiveError(f"the probe {one.name} could not be asked: {result.open}")
                if not result.open or asked > one.within:
                    took = self._world.clock.now() - begun
                    taken = Probe(one.name, not result.open, round(took, 3), one.within, "s", "recovery probe")
                    self._keep(Phase.SETTLE, taken, result.open or system.name)
                    waiting.remove((system, one))
                    if result.open:
                        self._open(system.name, f"{one.name} ({result.open})")
            if waiting:
                self._note(f"waiting for {', '.join(one.name for _, one in waiting)}")
                await self._for(POLL_SECONDS)
        if not self.outcome.unsettled:
            self.outcome.recovery_seconds = round(self._world.clock.now() - begun, 3)
        self.outcome.crashed += await self._dead()

    def _healthy(self, system: System) -> tuple[Settled, ...]:
        """Of all processes, asked once."""
        if system is not self.systems[0]:
            return ()

        async def probe_health(_: Evidence) -> str:
            rows = await blocking(self._world.runtime.status)
            for service in (row.service for row in rows if row.state == "running"):
                if not await blocking(self._world.runtime.healthy, service):
                    return f"{service} is not healthy"
            return ""

        return (Settled("processes_healthy", probe_health, HEALTHY_WITHIN_SECONDS),)

    async def _dead(self) -> list[str]:
        mine = {*HOUSE.processes, *INFRASTRUCTURE}
        return [
            f"{row.service} ({row.detail or f'exit code {row.exit_code}'})"
            for row in await blocking(self._world.runtime.status)
            if row.service in mine and row.state == "exited"
        ]

    async def _measure(self, moment: str) -> None:
        """How large everything is; a store that cannot be measured is a doubt."""
        platform = self._world.platform
        if not isinstance(platform, StorePlatform):
            return
        try:
            self.outcome.sizes[moment] = await sizes.measured(
                self.evidence(None),
                platform.stores(),
                self._world.runtime,
                self._world.root,
                prefix=self.outcome.prefix,
                at=self._world.clock.now(),
            )
        except (EvidenceError, NotApplicableError, RuntimeProblem) as reason:
            self.outcome.problems.append(f"sizes ({moment}) could not be measured: {reason}")

    def evidence(self, system: System | None) -> Evidence:
        """What a system's invariants may look at: the operations of its own sources, all faults."""
        sources = () if system is None else system.sources
        return self._world.platform.evidence(
            scenario="main",
            variant_name=WHO if system is None else system.name,
            variant=HOUSE,
            history=all_of(self.outcome.history, sources),
            faults=self.outcome.faults,
            prefix=self.outcome.prefix,
            window=(self.outcome.load[0], self._world.clock.now()),
        )

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _open(self, system: str, what: str) -> None:
        self.outcome.unsettled.setdefault(system, []).append(what)

    def _keep(self, phase: Phase, found: Probe, note: str) -> None:
        self.outcome.probes.append(ProbeRecord(phase, self._world.clock.now(), found, note))

    @asynccontextmanager
    async def _phase(self, phase: Phase, seconds: float | None = None) -> AsyncIterator[None]:
        self._began, self._tick = self._world.clock.now(), Tick()
        self.outcome.phases.append(PhaseStart(phase, self._began))
        self._world.display.begin(WHO, phase, seconds)
        try:
            yield
        finally:
            self._world.display.end(self._world.clock.now() - self._began, self._tick)

    def _note(self, text: str) -> None:
        self._tick = Tick(note=text)

    async def _for(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, TICK_SECONDS))
            self._watch()

    async def _while_waiting(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=TICK_SECONDS)
                self._watch()
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        await task

    def _watch(self) -> None:
        if self._loads is not None and self._loads.generators:
            second = self._loads.poll()
            share = second.bad / second.ended if second.ended else None
            self._tick = Tick(second.sent, share, second.p99_ms, tuple(self._plan.active()))
        self._world.display.tick(self._world.clock.now() - self._began, self._tick)

    async def _take_back(self) -> None:
        """In every case, also after an interruption. Idempotent."""
        failed = await self._plan.heal_all()
        self.outcome.faults = self._plan.records
        for sentence in failed:
            self._world.display.say(f"A fault could not be taken back: {sentence}")

    async def keep_logs(self) -> None:
        """What every process wrote last, beside the load's own logs."""
        folder = self._world.folder / "raw"
        folder.mkdir(exist_ok=True)
        for service in (*INFRASTRUCTURE, *HOUSE.processes):
            with suppress(RuntimeProblem):
                lines = await blocking(self._world.runtime.logs, service, lines=KEPT_LOG_LINES)
                (folder / f"{service}.log").write_text("\n".join(lines) + "\n")

    async def leave(self) -> None:
        """Stop all processes in reverse order of start, drop databases, topics and indices. Idempotent."""
        left = await self._stop_all()
        left.append(await self._world.platform.drop(prefix=self.outcome.prefix))
        if any(left):
            self._world.display.say(f"Something is left: {'; '.join(filter(None, left))}")

    async def _stop_all(self) -> list[str]:
        """Systems in reverse order of start, each at once. Returns sentences on what could not be stopped."""
        left = []
        for group in reversed(STARTS):
            stopping = (blocking(self._world.runtime.forget, service) for service in group)
            ended = await asyncio.gather(*stopping, return_exceptions=True)
            for one in ended:
                if isinstance(one, RuntimeProblem):
                    left.append(str(one))
                elif isinstance(one, BaseException):
                    raise one
        return left
