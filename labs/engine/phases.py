"""Takes one variant through all phases. What went wrong with the experiment itself is kept as the trial's `problems`."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from infra.runtime import RuntimeProblem
from labs.engine import comparing
from labs.engine import load as loading
from labs.engine.blocking import blocking, up
from labs.engine.cleanup import new_prefix
from labs.engine.display import Tick
from labs.engine.generator_check import generator_problem
from labs.engine.judging import judge
from labs.engine.load import Generator, LoadProblem, PhaseStart
from labs.engine.model import (
    Comparison,
    Evidence,
    Invariant,
    Lab,
    Load,
    Operation,
    Outcome,
    Phase,
    PrepareFailedError,
    Probe,
    Round,
    Settled,
    Status,
    VariantRole,
    Window,
)
from labs.engine.planning import Plan
from labs.engine.probing import check_all, crash, probe
from labs.engine.schedule import TROUBLE, FaultPlan, describe, unproven
from labs.engine.trial import ProbeRecord, Trial
from labs.engine.world import TrialContext, World

CONTROL_SEED_OFFSET = 1_000_003
"""The control's operations are others than those of the run: both are in the same databases and histories."""
SCENARIO_SEED_OFFSET = 2_000_003
"""Times the number of the scenario, where scenarios share databases: the same reason."""
VARIABLE = re.compile(r"\$\{(\w+)\}")
TICK_SECONDS = 0.5
POLL_SECONDS = 0.25
FLUSH_SECONDS = 2.0
KEPT_LOG_LINES = 300
CONTROL_SETTLE_SECONDS = 20.0
ARRIVALS_AT_LEAST = 0.8
ARRIVALS_DEVIATIONS = 3.0
"""Arrivals are a Poisson process: of 30 expected ones 24 or fewer come in one run of six, with nothing wrong."""
STEADY_WINDOW_SECONDS = 1.0
STEADY_AGAIN_WITHIN_SECONDS = 30.0
STAYS_STEADY_SECONDS = 3.0
"""After the recovery, at least; a shorter hold as long as the hold."""


def fewest_arrivals(expected: float) -> float:
    """Fewer than this in a window that expects so many mean that the generator or the service stands still."""
    return max(1.0, ARRIVALS_AT_LEAST * (expected - ARRIVALS_DEVIATIONS * math.sqrt(expected)))


class InconclusiveError(Exception):
    """The experiment cannot go on; the trial is unknown for this reason."""


@dataclass(frozen=True, slots=True)
class Control:
    """What a variant must hold without faults. Not `needed` if an earlier trial of this run has shown just that."""

    invariants: tuple[Invariant, ...]
    needed: bool = True


class TrialRun:
    """Runs one trial. `run` always takes faults back and, unless told to keep it, leaves nothing of the variant.

    With `after`, it goes on with the processes and databases of another trial; with `more`, it leaves its own for a next one
    if all went well, and whoever runs that one calls `leave` in any case.
    """

    def __init__(
        self,
        world: World,
        lab: Lab,
        plan: Plan,
        name: str,
        *,
        control: Control | None = None,
        after: TrialRun | None = None,
        more: bool = False,
        number: int = 0,
    ) -> None:
        self._world = world
        self._lab = lab
        self._plan = plan
        self._after = after
        self._more = more
        self._seed = world.seed + number * SCENARIO_SEED_OFFSET
        self._control_plan = control or Control(plan.scenario.invariants or ())
        variant = lab.variants[name]
        self.trial: Trial = Trial(
            plan.scenario.name, name, variant, new_prefix() if after is None else after.trial.prefix
        )
        self._times = world.folder / "raw" / f"{plan.scenario.name}-{name}.times" if plan.load.grows else None
        self._context = TrialContext(world, variant, times=self._times, variables=self._variables())
        self._faults = FaultPlan(plan.scenario.faults, self._context, self._context.resolved)
        self._earlier: tuple[Operation, ...] = () if after is None else after.control_history
        if after is not None:
            self.trial.elsewhere = after.trial.elsewhere | {one.key for one in after.trial.history}
            self.trial.elsewhere -= {one.key for one in after.control_history}
        self._records: list[loading.HistoryRecord] = []
        self._left = False
        self.control_passed = False
        self._began = 0.0
        self._tick = Tick()
        self._watched: Generator | None = None

    # --- the phases ---------------------------------------------------------------------------------------------

    async def run(self) -> Trial:
        """All phases. Raises only CancelledError, after everything is taken back."""
        try:
            await self._phases()
        except InconclusiveError as reason:
            self.trial.problems.append(str(reason))
        except (LoadProblem, RuntimeProblem) as reason:
            self.trial.problems.append(f"{self.trial.name}: {reason}")
        except BaseException:
            self._more = False
            raise
        finally:
            await self._take_back()
            await self._keep_logs()
            if not (self._more and self.trial.in_order):
                await self.leave()
        return self.trial

    @property
    def goes_on(self) -> bool:
        """Its processes are there for another scenario."""
        return not self._left

    @property
    def control_history(self) -> tuple[Operation, ...]:
        """The operations without faults against these databases."""
        return self._earlier or tuple(one for one in self.trial.history if one.phase is Phase.CONTROL)

    async def run_and_keep(self) -> None:
        """Start, load, inject and take back once more; processes and databases stay. Nothing is judged."""
        try:
            async with self._phase(Phase.PREFLIGHT):
                await self.start()
            if self._lab.comparison is not None:
                async with self._phase(Phase.BASELINE):
                    await self._ask(self._lab.comparison, control=False)
                return
            async with self._generator("keep", self._plan.load, self._seed) as generator:
                async with self._phase(Phase.BASELINE):
                    await generator.started()
                await self._break(generator)
                await generator.stop()
        except (InconclusiveError, LoadProblem, RuntimeProblem) as reason:
            self._world.display.say(str(reason))
        except asyncio.CancelledError:
            await self._take_back()
            await self.leave()
            raise
        await self._take_back()

    async def _phases(self) -> None:
        timing = self._world.timing
        async with self._phase(Phase.PREFLIGHT):
            if self._after is None:
                await self.start()
        if self._lab.comparison is not None:
            await self._compare(self._lab.comparison)
            return
        if self._after is None and self._control_plan.needed:
            async with self._phase(Phase.CONTROL, timing.control):
                await self._control()
        async with self._generator("load", self._plan.load, self._seed) as generator:
            async with self._phase(Phase.BASELINE, self._plan.baseline(timing)):
                await generator.started()
                await self._baseline(generator)
            await self._break(generator)
            async with self._phase(Phase.SETTLE):
                await self._settle(generator)
        async with self._phase(Phase.RECONCILE):
            await judge(self.trial, self._lab, self._plan, self._evidence(), self._world.clock)

    async def start(self) -> None:
        """Fresh processes of this variant on databases and topics of its own, set up as the lab wants them."""
        runtime, variant = self._world.runtime, self.trial.variant
        for service in reversed(variant.processes):
            await blocking(runtime.forget, service)
        if variant.processes:
            await self._while_waiting(up(runtime, variant.processes, self._note, env=self._variables()))
        await self._while_waiting(self._prepare())

    def _variables(self) -> dict[str, str]:
        """Of the compose file, as this variant's processes are to see them."""
        found = {**self._lab.environment, **self.trial.variant.environment, "LAB_PREFIX": self.trial.prefix}
        if (size := self._lab.documents) is not None:
            found["CATALOG_PRODUCTS"] = str(self._world.docs or (size.short if self._plan.short else size.full))
        return found

    async def _prepare(self) -> None:
        """The lab's own set-up step, with its time."""
        if self._lab.prepare is None:
            return
        began = self._world.clock.now()
        self._note("preparing")
        try:
            async with asyncio.timeout(self._lab.prepare_seconds):
                done = await self._lab.prepare(self._context)
        except (PrepareFailedError, *TROUBLE) as reason:
            raise InconclusiveError(f"{self.trial.name} could not be prepared: {describe(reason)}") from reason
        except Exception as error:
            raise InconclusiveError(f"{self.trial.name} could not be prepared: {crash(error)}") from error
        took = self._world.clock.now() - began
        prepared = Probe("prepare", True, round(took, 3), self._lab.prepare_seconds, "s", "set-up step of the lab")
        self.trial.probes.append(ProbeRecord(Phase.PREFLIGHT, self._world.clock.now(), prepared, done))
        self._note(done)

    async def _control(self) -> None:
        """The same without faults: every variant must hold, or the experiment shows nothing."""
        seed = self._seed + CONTROL_SEED_OFFSET
        async with self._generator("control", self._plan.control_load, seed) as generator:
            await generator.started()
            await self._for(self._world.timing.control, generator)
            self._records += await generator.stop()
        self._take_history([])
        if not self.trial.history:
            raise InconclusiveError(f"control: the load sent nothing to {self.trial.name}")
        still_open = await self._wait_settled(bound=CONTROL_SETTLE_SECONDS)
        if still_open:
            raise InconclusiveError(f"control: without any fault, {self.trial.name} did not settle: {still_open[0]}")
        await self._judge_control("without any fault")

    async def _judge_control(self, when: str) -> None:
        findings = await check_all(self._control_plan.invariants, self._evidence())
        for name, finding in findings.items():
            if finding.status in (Status.BROKEN, Status.UNKNOWN):
                what = f"{finding.count} offenders" if finding.status is Status.BROKEN else f"unknown, {finding.note}"
                raise InconclusiveError(f"control: {when}, {self.trial.name} did not hold {name} ({what})")
        self.control_passed = True

    async def _compare(self, comparison: Comparison) -> None:
        """Questions instead of load and faults."""
        async with self._phase(Phase.CONTROL):
            await self._ask(comparison, control=True)
            await self._judge_control("asked what every variant can answer")
        async with self._phase(Phase.BASELINE):
            await self._ask(comparison, control=False)
        self.trial.crashed += await self._dead_processes()
        async with self._phase(Phase.RECONCILE):
            await judge(self.trial, self._lab, self._plan, self._evidence(), self._world.clock)

    async def _ask(self, comparison: Comparison, *, control: bool) -> None:
        about = Round(
            variant=self.trial.name,
            prefix=self.trial.prefix,
            control=control,
            short=self._plan.short,
            seed=self._world.seed,
            docs=self._world.docs,
            note=self._note,
        )

        async def asking() -> None:
            try:
                self.trial.history += await comparing.ask(comparison, self._context, about)
            except comparing.NotComparedError as reason:
                raise InconclusiveError(str(reason)) from reason

        await self._while_waiting(asking())

    async def _baseline(self, generator: Generator) -> None:
        """The steady state, and whether the generator can be believed."""
        start, cpu_before = self._world.clock.now(), generator.cpu_seconds()
        await self._for(self._plan.baseline(self._world.timing), generator)
        end, cpu = self._world.clock.now(), generator.cpu_seconds() - cpu_before
        await self._flushed(generator, end)
        self._take_history(generator.poll())
        window = self.trial.window(start, end)
        failed = [found for found in self._probe_steady(Phase.BASELINE, window) if not found.ok]
        if problem := generator_problem(window, cpu / (end - start)):
            raise InconclusiveError(problem)
        ended = sum(one.done_at is not None for one in window.operations)
        expected = self._plan.load.rate * window.seconds
        if ended < fewest_arrivals(expected):
            raise InconclusiveError(
                f"baseline: only {ended} of {expected:.0f} operations ended at {self.trial.name}; nothing was injected"
            )
        if failed:
            one = failed[0]
            value = "no value" if one.value is None else f"{one.value:.4g} {one.unit}"
            raise InconclusiveError(
                f"baseline: {self.trial.name} was not steady before any fault ({one.name} {value}, "
                f"limit {one.limit:g}); nothing was injected"
            )

    async def _break(self, generator: Generator) -> None:
        """Inject, hold, heal."""
        faults = self._plan.scenario.faults
        length = self._plan.inject(self.trial.variant, self._world.timing)
        last_inject = max((one.at for one in faults), default=0.0)
        work = asyncio.create_task(self._faults.run(), name="faults")
        try:
            async with self._phase(Phase.INJECT, last_inject):
                await self._for(last_inject, generator)
            async with self._phase(Phase.HOLD, length - last_inject):
                await self._for(length - last_inject, generator)
                await self._while_waiting(work, generator)
        finally:
            work.cancel()
            await asyncio.wait([work])
        async with self._phase(Phase.HEAL):
            failed = await self._faults.heal_all()
        self.trial.faults = self._faults.records
        self.trial.problems += unproven(self.trial.faults)
        self._take_history(generator.poll())
        if failed:
            raise InconclusiveError(f"heal failed, so nothing after it was judged: {'; '.join(failed)}")

    async def _settle(self, generator: Generator) -> None:
        """Recovery under load, then quiet: the load ends, and what is under way ends."""
        healed_at = self._world.clock.now()
        still_open = await self._wait_settled(generator=generator)
        settled_at = self._world.clock.now()
        recovered_at, why_not = await self._steady_again(generator, healed_at, "steady_again")
        if not why_not and settled_at > recovered_at + STEADY_WINDOW_SECONDS:
            # What was missed has arrived meanwhile, at those who had just started: served as before is who is so after that, too.
            recovered_at, why_not = await self._steady_again(generator, settled_at, "steady_once_settled")
        if why_not:
            still_open.append(f"steady_again ({why_not})")
        held = self._plan.hold(self.trial.variant, self._world.timing)
        if held is not None:
            last = max(healed_at + held, recovered_at + min(held, STAYS_STEADY_SECONDS))
            await self._for(max(0.0, last - self._world.clock.now()), generator)
        end = self._world.clock.now()
        self._take_history(await generator.stop(), final=True)
        # Catching up may cost the clients something; once that is over, and they are served as before, it has to last.
        if held is not None and not still_open and (lost := self._unsteady(self.trial.window(recovered_at, end))):
            still_open.append(f"steady_again (steady at first, and not over all of the hold: {lost})")
        if not still_open:
            self.trial.recovery_seconds = round(max(settled_at, recovered_at) - healed_at, 3)
        self._probe_during()
        self._probe_steady(Phase.SETTLE, self.trial.window(healed_at, end))
        if not still_open:
            still_open = await self._wait_settled()
        self.trial.unsettled += still_open
        self.trial.crashed += await self._dead_processes()

    async def _steady_again(self, generator: Generator, since: float, name: str) -> tuple[float, str]:
        """Until clients are served as before the faults: from when on, and "" or what is wrong at the bound.

        A process that is healthy and refuses everybody has not recovered. Looks at each second of load, in
        steps of half a second, once its operations have had half a second to end; what has not ended by then is missing in it.
        """
        clock = self._world.clock
        held = self._plan.hold(self.trial.variant, self._world.timing)
        bound = STEADY_AGAIN_WITHIN_SECONDS if held is None else held
        length = min(STEADY_WINDOW_SECONDS, self._world.timing.baseline / 2)
        start, why_not = since, "no second of load since the heal"
        while True:
            self._watch(generator)  # a probe before this may have taken long
            newest = clock.from_monotonic(generator.live[-1].at) if generator.live else 0.0
            while newest >= start + 1.5 * length:
                why_not = self._not_steady(generator, start, start + length)
                if not why_not:
                    break
                start += length / 2
            if not why_not or clock.now() - since > bound:
                break
            await self._for(POLL_SECONDS, generator)
        if not why_not and start - since > bound:
            why_not = f"only after {start - since:.1f} s, limit {bound:g} s"
        self._keep_recovery(name, start - since, bound, why_not)
        return start, why_not

    def _not_steady(self, generator: Generator, start: float, end: float) -> str:
        clock = self._world.clock
        records = [one for one in generator.records if start <= clock.from_monotonic(one.intended_at) < end]
        operations = loading.to_operations(records, clock, self.trial.phases)
        ended = [one for one in operations if one.done_at is not None]
        due = self._plan.load.rate * (end - start)
        if len(ended) < ARRIVALS_AT_LEAST * due:
            return f"only {len(ended)} of {due:.0f} operations of the newest second have ended"
        return self._unsteady(Window(end - start, tuple(operations)))

    def _unsteady(self, window: Window) -> str:
        found = [predicate.check(window) for predicate in self._plan.steady_state]
        return ", ".join(
            f"{one.name} {'no value' if one.value is None else f'{one.value:.4g}'} {one.unit}, limit {one.limit:g}"
            for one in found
            if not one.ok
        )

    def _probe_during(self) -> None:
        """The steady state while the faults lasted, and whether anything was promised then that could be broken."""
        began = next(one.at for one in self.trial.phases if one.phase is Phase.INJECT)
        ended = next(one.at for one in self.trial.phases if one.phase is Phase.HEAL)
        window = self.trial.window(began, ended)
        self._probe_steady(Phase.HOLD, window)
        acknowledged = sum(one.outcome is Outcome.OK for one in window.operations)
        due = self._plan.load.rate * window.seconds
        if (
            self._plan.scenario.faults
            and self.trial.variant.role is not VariantRole.NAIVE
            and acknowledged < self._plan.acknowledged_at_least * due
        ):
            self.trial.problems.append(
                f"{self.trial.name} acknowledged only {acknowledged} of {due:.0f} operations while the faults lasted: "
                "too few to show that it keeps its word"
            )

    # --- helpers ------------------------------------------------------------------------------------------------

    def _evidence(self) -> Evidence:
        return self._world.platform.evidence(
            scenario=self.trial.scenario,
            variant_name=self.trial.name,
            variant=self.trial.variant,
            history=(*self._earlier, *self.trial.history),
            faults=self.trial.faults,
            prefix=self.trial.prefix,
            window=(self._window_start(), self._world.clock.now()),
        )

    def _window_start(self) -> float:
        """Of the baseline, or of the trial before it."""
        return next((one.at for one in self.trial.phases if one.phase is Phase.BASELINE), self.trial.phases[0].at)

    def _take_history(self, records: Sequence[loading.HistoryRecord], *, final: bool = False) -> None:
        everything = [*self._records, *records]
        if final:
            self._records = everything
        self.trial.history = loading.to_operations(everything, self._world.clock, self.trial.phases)

    async def _flushed(self, generator: Generator, moment: float) -> None:
        """The generator writes once a second: wait until it has written what ended before `moment`."""
        for _ in range(int(FLUSH_SECONDS / POLL_SECONDS)):
            generator.poll()
            if generator.live and self._world.clock.from_monotonic(generator.live[-1].at) >= moment:
                return
            await self._for(POLL_SECONDS, generator)

    def _probe_steady(self, phase: Phase, window: Window) -> list[Probe]:
        found = [predicate.check(window) for predicate in self._plan.steady_state]
        now = self._world.clock.now()
        self.trial.probes += [ProbeRecord(phase, now, one) for one in found]
        return found

    async def _wait_settled(self, *, generator: Generator | None = None, bound: float | None = None) -> list[str]:
        """Ask until all are settled. Returns sentences on what is not within its bound; keeps how long each took."""
        start = self._world.clock.now()
        waiting = {one.name: one for one in (*self._plan.settled, self._processes_healthy())}
        still_open = dict.fromkeys(waiting, "")
        while True:
            evidence = self._evidence()
            for name, one in list(waiting.items()):
                asked = self._world.clock.now() - start
                result = await probe(one, evidence)
                took = self._world.clock.now() - start
                within = one.within if bound is None else min(one.within, bound)
                late = f"only after {took:.1f} s, limit {within:g} s" if asked > within else ""
                still_open[name] = result.open or late
                if result.crashed:
                    raise InconclusiveError(f"the probe {name} could not be asked: {result.open}")
                if not result.open or took > within:
                    self._keep_recovery(name, took, within, still_open[name])
                    del waiting[name]
            if not waiting:
                return [f"{name} ({what})" for name, what in still_open.items() if what]
            await self._for(POLL_SECONDS, generator)

    def _keep_recovery(self, name: str, took: float, within: float, still_open: str) -> None:
        taken = Probe(name, not still_open, round(took, 3), within, "s", "recovery probe")
        phase = self.trial.phases[-1].phase
        self.trial.probes.append(ProbeRecord(phase, self._world.clock.now(), taken, still_open))

    def _processes_healthy(self) -> Settled:
        async def probe_health(_: Evidence) -> str:
            for service in await self._running():
                if not await blocking(self._world.runtime.healthy, service):
                    return f"{service} is not healthy"
            return ""

        return Settled("processes_healthy", probe_health, 30.0)

    async def _running(self) -> list[str]:
        rows = await blocking(self._world.runtime.status)
        return [row.service for row in rows if row.service in self.trial.variant.processes and row.state == "running"]

    async def _dead_processes(self) -> list[str]:
        rows = await blocking(self._world.runtime.status)
        return [
            f"{row.service} ({row.detail or f'exit code {row.exit_code}'})"
            for row in rows
            if row.service in self.trial.variant.processes and row.state == "exited"
        ]

    def _generator(self, name: str, load: Load, seed: int) -> Generator:
        folder = self._world.folder / "raw"
        folder.mkdir(exist_ok=True)
        stem = f"{self.trial.scenario}-{self.trial.name}-{name}"
        host, port = self._world.runtime.address(self.trial.variant.roles[self.trial.variant.target])
        history, live = folder / f"{stem}.history.jsonl", folder / f"{stem}.live.jsonl"
        settling = 300.0
        longest = self._plan.seconds(self.trial.variant, self._world.timing, settling=settling) + settling
        address, program = f"http://{host}:{port}", self._world.generator
        options = tuple(self._filled(one) for one in (*load.options, *self.trial.variant.load_options))
        if self._times is not None and name != "control":
            options += ("--times", str(self._times))
        load = replace(load, options=options)
        argv = loading.command(load, address, seed, longest, history, live, program=program)
        return Generator(argv, self._world.root, folder / f"{stem}.log", history, live)

    def _filled(self, option: str) -> str:
        return VARIABLE.sub(lambda match: self._world.runtime.variable(match[1]), option)

    @asynccontextmanager
    async def _phase(self, phase: Phase, seconds: float | None = None) -> AsyncIterator[None]:
        who = self.trial.name if self.trial.scenario == "main" else f"{self.trial.name} {self.trial.scenario}"
        self._began = self._world.clock.now()
        self._tick, self._watched = Tick(), None
        self.trial.phases.append(PhaseStart(phase, self._began))
        self._world.display.begin(who, phase, seconds)
        try:
            yield
        finally:
            elapsed = self._world.clock.now() - self._began
            self._world.display.end(elapsed, self._over_phase(elapsed))

    def _over_phase(self, elapsed: float) -> Tick:
        """The figures of the whole phase, once it is over."""
        if self._watched is None:
            return self._tick
        seconds = [one for one in self._watched.live if self._world.clock.from_monotonic(one.at) >= self._began]
        done = sum(one.done for one in seconds)
        bad = sum(one.fail + one.unknown for one in seconds)
        slowest = [one.p99_ms for one in seconds if one.p99_ms is not None]
        return Tick(
            rate=sum(one.sent for one in seconds) / elapsed,
            errors=bad / done if done else None,
            p99_ms=max(slowest, default=None),
            note="(p99 of its worst second)" if slowest else "",
        )

    def _note(self, text: str) -> None:
        self._tick = replace(self._tick, note=text)

    async def _for(self, seconds: float, generator: Generator | None = None) -> None:
        """Let time pass, watching the load."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, TICK_SECONDS))
            self._watch(generator)

    async def _while_waiting(self, work: Awaitable[None], generator: Generator | None = None) -> None:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=TICK_SECONDS)
                self._watch(generator)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        await task

    def _watch(self, generator: Generator | None) -> None:
        if generator is not None:
            self._watched = generator
            generator.check_alive()
            generator.poll()
            if generator.live:
                now = generator.live[-1]
                done = now.ok + now.fail + now.unknown
                share = (now.fail + now.unknown) / done if done else None
                self._tick = Tick(now.sent, share, now.p99_ms, tuple(self._faults.active()))
        self._world.display.tick(self._world.clock.now() - self._began, self._tick)

    async def _take_back(self) -> None:
        """In every case, also after an interruption. Idempotent."""
        failed = await self._faults.heal_all()
        self.trial.faults = self._faults.records
        for sentence in failed:
            self._world.display.say(f"A fault could not be taken back: {sentence}")

    async def _keep_logs(self) -> None:
        """What the processes wrote last, beside the load's own log, when something went wrong with the experiment."""
        if not (self.trial.problems or self.trial.unsettled or self.trial.crashed):
            return
        folder = self._world.folder / "raw"
        folder.mkdir(exist_ok=True)
        for service in self.trial.variant.processes:
            lines = await self._quietly(partial(self._log_of, service))
            (folder / f"{self.trial.scenario}-{self.trial.name}-{service}.log").write_text(lines)

    async def _log_of(self, service: str) -> str:
        return "\n".join(await blocking(self._world.runtime.logs, service, lines=KEPT_LOG_LINES)) + "\n"

    async def leave(self) -> None:
        """Stop the variant's processes, drop its databases and topics. Idempotent."""
        if self._left:
            return
        self._left = True
        left = [await self._quietly(self.stop_processes), await self._world.platform.drop(prefix=self.trial.prefix)]
        if any(left):
            self._world.display.say(f"Of {self.trial.name}, something is left: {'; '.join(filter(None, left))}")

    async def stop_processes(self) -> str:
        """In reverse order of start."""
        for service in reversed(self.trial.variant.processes):
            await blocking(self._world.runtime.forget, service)
        return ""

    @staticmethod
    async def _quietly(step: Callable[[], Awaitable[str]]) -> str:
        try:
            return await step()
        except RuntimeProblem as problem:
            return str(problem)
