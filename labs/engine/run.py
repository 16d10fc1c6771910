"""Runs labs: infrastructure up, each variant tried in each scenario, verdict, report, and everything down again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import psutil
from rich.console import Console

from infra.docker.engine import stand_ins
from infra.runtime import Runtime, RuntimeProblem
from labs.engine import files, folder, results
from labs.engine.annotate import MarkingDisplay, Marks, told_to_prometheus
from labs.engine.blocking import blocking, until_told, up
from labs.engine.clock import RunClock
from labs.engine.discover import folder_of
from labs.engine.display import Display, Tick, open_display
from labs.engine.load import LOCUST
from labs.engine.lock import one_lab
from labs.engine.model import Lab, Phase, Variant, VariantRole, Verdict
from labs.engine.phases import TrialRun
from labs.engine.planning import Plan, plans_of
from labs.engine.prompt import prediction
from labs.engine.servers import versions as server_versions
from labs.engine.summary import naive_line, table
from labs.engine.timing import Timing, plan
from labs.engine.trial import Trial
from labs.engine.trying import try_all
from labs.engine.verdict import Claim, Judgement, judge_lab, worst
from labs.engine.week import SKIPPED, Day, name_of, show_days
from labs.engine.world import Platform, StorePlatform, World

DEFAULT_SEED = 42
LEAST_MEMORY_BYTES = 1 << 30
LEAST_DISK_BYTES = 1 << 30
LARGEST_CLOCK_STEP_SECONDS = 2.0
EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.UNKNOWN: 3}

PlatformFactory = Callable[[Runtime, aiohttp.ClientSession, RunClock], Platform]


@dataclass(frozen=True, slots=True)
class Options:
    """What a learner may say. `rate` per second, `seconds` of load in all, `docs` documents; None leaves it to the lab."""

    variant: str | None = None
    seed: int = DEFAULT_SEED
    keep: bool = False
    short: bool = False
    rate: float | None = None
    seconds: float | None = None
    predict: str | None = None
    docs: int | None = None

    def changes(self) -> dict[str, files.Plain]:
        """What makes it another experiment than the plain one."""
        said = {"variant": self.variant, "rate": self.rate, "seconds": self.seconds, "docs": self.docs}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Session:
    """What all labs of one command share."""

    runtime: Runtime
    root: Path
    console: Console
    options: Options
    http: aiohttp.ClientSession
    display: Display
    platform: PlatformFactory
    infrastructure: Infrastructure
    generator: Sequence[str]
    timing: Timing | None
    marks: Marks = field(default_factory=Marks)


@dataclass(slots=True)
class LabRun:
    """One lab of a session."""

    session: Session
    lab: Lab
    timing: Timing
    names: tuple[str, ...]
    plans: tuple[Plan, ...]
    predicted: str | None
    clock: RunClock = field(default_factory=RunClock)
    trials: list[Trial] = field(default_factory=list)


def chosen_variants(lab: Lab, wanted: str | None, *, short: bool = False) -> tuple[str, ...]:
    """Raises ValueError for a variant that the lab does not have."""
    if wanted is None:
        regular = {name: variant for name, variant in lab.variants.items() if not variant.on_request}
        return tuple(name for name, variant in regular.items() if variant.in_short or not short)
    if wanted not in lab.variants:
        raise ValueError(f"{lab.name} has no variant {wanted!r}; it has {', '.join(lab.variants)}")
    return (wanted,)


async def run_labs(
    labs: Sequence[Lab],
    options: Options,
    *,
    runtime: Runtime,
    root: Path,
    console: Console,
    platform: PlatformFactory = StorePlatform,
    generator: Sequence[str] = LOCUST,
    timing: Timing | None = None,
) -> int:
    """Run them in order; the exit code of the worst. Cancelled, it takes back all faults and stops what it started.

    `platform`, `generator` and `timing` are for tests of the engine itself.
    Raises ValueError for wrong options and RuntimeProblem when nothing could be started.
    """
    for lab in labs:
        chosen_variants(lab, options.variant)
        if lab.comparison is not None and (options.rate, options.seconds) != (None, None):
            raise ValueError(f"{lab.name} compares answers and has no load: leave out rate and seconds")
        plans_of(lab, plan(lab.load, short=options.short, seconds=options.seconds), short=options.short)
    with one_lab(root, f"A lab ({', '.join(lab.name for lab in labs)})"):
        async with aiohttp.ClientSession(trust_env=False) as http:
            display = open_display(console)
            infrastructure = Infrastructure(runtime, display, _infrastructure_of(labs))
            session = Session(
                runtime, root, console, options, http, display, platform, infrastructure, generator, timing
            )
            kept = False
            days: list[Day] = []
            began = time.monotonic()
            try:
                for number, lab in enumerate(labs):
                    infrastructure.wanted = _infrastructure_of(labs[number:])
                    days.append(await _run_day(session, lab, alone=len(labs) == 1))
                kept = options.keep
            finally:
                if len(labs) > 1:
                    show_days(console, days, labs, seconds=time.monotonic() - began, short=options.short)
                await infrastructure.close(kept=kept)
    verdict = worst(day.verdict for day in days if day.verdict is not None)
    if len(labs) > 1:
        console.print(f"VERDICT {name_of(labs)} {verdict.value}", markup=False, highlight=False)
    return EXIT_CODES[verdict]


def _infrastructure_of(labs: Sequence[Lab]) -> frozenset[str]:
    return frozenset(service for lab in labs for service in lab.infrastructure)


async def _run_day(session: Session, lab: Lab, *, alone: bool) -> Day:
    """A day that cannot be run is unknown, and the next one is run all the same. Alone, RuntimeProblem is raised."""
    began = time.monotonic()
    verdict: Verdict | None
    report, reason = None, ""
    try:
        verdict, report = await _run_one(session, lab)
    except SkippedError as skipped:
        verdict, reason = None, str(skipped)
        session.console.print(reason, markup=False, highlight=False, soft_wrap=True)
        session.console.print(f"VERDICT {lab.name} {SKIPPED}", markup=False, highlight=False)
    except RuntimeProblem as problem:
        if alone:
            raise
        verdict, reason = Verdict.UNKNOWN, str(problem)
        session.console.print(reason, markup=False, highlight=False, soft_wrap=True)
        session.console.print(f"VERDICT {lab.name} unknown", markup=False, highlight=False)
    return Day(lab, verdict, time.monotonic() - began, report, reason)


class SkippedError(Exception):
    """The day cannot be shown here and says why; neither it nor the machine has failed."""


def _require_official(session: Session, lab: Lab) -> None:
    """Raises SkippedError where a stand-in has the name of an image that the day needs as it is."""
    if session.runtime.name != "docker" or not lab.official_images:
        return
    if made := stand_ins(folder.images(session.root, lab.official_images).values()):
        raise SkippedError(
            f"{lab.name} is skipped: {', '.join(made)} is another build under that name here, and cannot do what this day needs."
            f" It runs natively: LAB_RUNTIME=native make lab week={lab.week} day={lab.day}"
        )


async def _run_one(session: Session, lab: Lab) -> tuple[Verdict, Path]:
    options = session.options
    session.console.print(f"\n{lab.name}  {lab.title}", style="bold", highlight=False)
    session.console.print(lab.question, markup=False, highlight=False, soft_wrap=True)
    _require_official(session, lab)
    predicted = await until_told(lambda stop: prediction(session.console, options.predict, stop=stop))
    timing = session.timing or plan(lab.load, short=options.short, seconds=options.seconds)
    plans = plans_of(lab, timing, rate=options.rate, short=options.short)
    run = LabRun(session, lab, timing, chosen_variants(lab, options.variant, short=options.short), plans, predicted)
    return await _execute(run)


async def _execute(run: LabRun) -> tuple[Verdict, Path]:
    session, lab = run.session, run.lab
    path = folder.create(session.root, lab.name, run.clock, session.options.seed)
    world = World(
        runtime=session.runtime,
        platform=session.platform(session.runtime, session.http, run.clock),
        session=session.http,
        clock=run.clock,
        display=MarkingDisplay(session.display, session.marks, lab.name),
        timing=run.timing,
        seed=session.options.seed,
        root=session.root,
        folder=path,
        generator=session.generator,
        docs=session.options.docs,
    )
    experiment = _experiment(run)
    files.write(path / "experiment.json", experiment)
    await session.infrastructure.ensure(lab.infrastructure, session.root, env=lab.environment)
    servers = await server_versions(session.runtime, session.http, lab.infrastructure, session.root)
    files.write(path / "experiment.json", msgspec.structs.replace(experiment, versions=experiment.versions | servers))
    if left := await world.platform.drop():
        session.display.say(f"Of earlier runs, something is left: {left}")
    with told_to_prometheus(session.marks, session.runtime, session.root):
        await try_all(world, lab, run.plans, run.names, lambda trial: _keep_trial(run, path, trial))
        verdict = _conclude(run, world)
        if session.options.keep:
            await _once_more(run, world)
    _last_line(run, verdict)
    folder.prune(path)
    return verdict.verdict, path / "report.html"


def _keep_trial(run: LabRun, path: Path, trial: Trial) -> None:
    run.trials.append(trial)
    files.append(path / "history.jsonl", results.history_lines(trial))
    files.append(path / "faults.jsonl", results.fault_lines(trial))
    files.append(path / "probes.jsonl", results.probe_lines(trial))


def _conclude(run: LabRun, world: World) -> Judgement:
    """Judge, write, show."""
    from labs.engine.report import write_report  # the drawing library takes a second to load, and `list` needs none

    lab, path, console = run.lab, world.folder, run.session.console
    claims = {
        one.scenario.name: Claim(
            one.discriminates.invariant.__name__, one.discriminates.at_least, one.scenario.broken_by
        )
        for one in run.plans
    }
    judgement = judge_lab([trial.summary for trial in run.trials], claims)
    files.write(path / "reconcile.json", results.reconcile_file(run.trials))
    document = results.verdict_file(lab, run.trials, judgement, seconds=run.clock.now())
    files.write(path / "verdict.json", document)
    write_report(path, lab=lab, trials=run.trials, document=document, predicted=run.predicted, plans=run.plans)
    if not any(trial.problems or trial.unsettled or trial.crashed for trial in run.trials):
        shutil.rmtree(path / "raw", ignore_errors=True)
    folder.link_latest(path)
    console.print()
    console.print(table(document, run.trials))
    for reason in judgement.reasons:
        console.print(f"- {reason}", markup=False, highlight=False, soft_wrap=True)
    if abs(drift := run.clock.wall_drift()) > LARGEST_CLOCK_STEP_SECONDS:
        console.print(f"- the wall clock moved by {drift:.1f} s during the run: times of the stores are off by as much")
    took = run.clock.now()
    budget = f"{took:.0f} s, of {run.timing.budget:.0f} s for the day"
    console.print(f"{budget}  report: {path / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    return judgement


def _last_line(run: LabRun, judgement: Judgement) -> None:
    """The line that scripts read."""
    who = run.lab.name
    if len(run.names) == 1 and run.session.options.variant is not None:
        name = run.names[0]
        variant = run.lab.variants[name]
        promised = {
            one.scenario.name: one.discriminates.invariant.__name__
            for one in run.plans
            if one.scenario.decides_on(name)
        }
        if variant.role is VariantRole.NAIVE and promised and judgement.verdict is not Verdict.UNKNOWN:
            text = naive_line(run.trials, promised)
            run.session.console.print(f"VERDICT {who} {name} {text}", markup=False, highlight=False, soft_wrap=True)
            return
        who = f"{who} {name}"
    run.session.console.print(f"VERDICT {who} {judgement.verdict.value}", markup=False, highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Infrastructure:
    """Servers that all labs of a command share. Down at the end if this command started them and nothing is kept."""

    runtime: Runtime
    display: Display
    wanted: frozenset[str] = frozenset()
    """Of this lab and those after it: what a later day needs stays up between, what none needs is stopped."""
    already: bool | None = None

    async def ensure(self, services: Sequence[str], root: Path, *, env: Mapping[str, str] | None = None) -> None:
        """Up, with a lab's own variables; what an earlier run has left of variants is stopped. Raises RuntimeProblem."""
        rows = await blocking(self.runtime.status)
        if self.already is None:
            _check_machine(root)
            self.already = any(row.service in self.wanted and row.state in ("running", "paused") for row in rows)
        for row in rows:
            if row.service not in self.wanted:
                await blocking(self.runtime.forget, row.service)
        clock = RunClock()
        self.display.begin("servers", Phase.PREFLIGHT, None)
        await up(self.runtime, services, lambda text: self.display.tick(clock.now(), Tick(note=text)), env=env)
        self.display.end(clock.now(), Tick())

    async def close(self, *, kept: bool) -> None:
        """Idempotent."""
        if self.already is False and not kept:
            await blocking(self.runtime.down)


def _check_machine(root: Path) -> None:
    """Raises RuntimeProblem when memory or disk will not do."""
    if (free := psutil.virtual_memory().available) < LEAST_MEMORY_BYTES:
        raise RuntimeProblem(f"Only {free >> 20} MiB of memory are free; a lab needs {LEAST_MEMORY_BYTES >> 20} MiB.")
    if (free := shutil.disk_usage(root).free) < LEAST_DISK_BYTES:
        raise RuntimeProblem(f"Only {free >> 20} MiB of disk are free; a lab needs {LEAST_DISK_BYTES >> 20} MiB.")


async def _once_more(run: LabRun, world: World) -> None:
    """After judging: the last variant again, injected once more, and left running for looking around."""
    name = run.names[-1]
    again = TrialRun(world, run.lab, next(one for one in run.plans if one.scenario.tries(name)), name)
    run.session.display.say(f"\nOnce more, to look around: {name}")
    await again.run_and_keep()
    variant, runtime = run.lab.variants[name], world.runtime
    say = run.session.display.say
    say(f"{name} is left running, with the damage in its stores:")
    for line in _where(variant, runtime, again.trial.prefix):
        say(f"  {line}")
    say("  stop it all: make down")


def _where(variant: Variant, runtime: Runtime, prefix: str) -> list[str]:
    lines = [f"{role}: {service}" for role, service in variant.roles.items()]
    host, port = runtime.address(variant.roles[variant.target])
    lines.append(f"address: http://{host}:{port}")
    host, port = runtime.address("postgres")
    password = runtime.variable("POSTGRES_PASSWORD")
    lines.append(
        f"databases: PGPASSWORD={password} psql -h {host} -p {port} -U postgres {prefix}payments   (or {prefix}bank)"
    )
    host, port = runtime.address("kafka")
    lines.append(f"topics: at {host}:{port}, names begin with {prefix}")
    return lines


def _experiment(run: LabRun) -> files.Experiment:
    lab, options, root = run.lab, run.session.options, run.session.root
    services = {*lab.infrastructure, *(one for name in run.names for one in lab.variants[name].processes)}
    images = folder.images(root, sorted(services))
    return files.Experiment(
        lab=lab.name,
        title=lab.title,
        question=lab.question,
        hypothesis=lab.hypothesis,
        prediction=run.predicted,
        variants={name: _variant_part(lab, lab.variants[name]) for name in run.names},
        scenarios={one.scenario.name: _scenario_part(one) for one in run.plans},
        seed=options.seed,
        load=files.LoadPart(
            script=run.plans[0].load.script,
            rate=run.plans[0].load.rate,
            max_in_flight=run.plans[0].load.max_in_flight,
            control_seconds=run.timing.control,
            baseline_seconds=run.timing.baseline,
            inject_seconds=run.timing.inject,
        ),
        short=options.short,
        options=options.changes(),
        started_at=run.clock.wall.isoformat(),
        commit=folder.commit(root),
        versions=folder.versions(),
        host=folder.host(),
        runtime=run.session.runtime.name,
        images=images,
        stand_ins=stand_ins(images.values()) if run.session.runtime.name == "docker" else [],
        configuration_hash=folder.configuration_hash(root, root / "labs" / folder_of(lab.week)),
    )


def _variant_part(lab: Lab, variant: Variant) -> files.VariantPart:
    return files.VariantPart(
        role=variant.role,
        title=variant.title,
        roles=dict(variant.roles),
        edges=dict(variant.edges),
        processes=list(variant.processes),
        environment={**lab.environment, **variant.environment},
        load_options=list(variant.load_options),
        hold_seconds=variant.hold,
    )


def _scenario_part(one: Plan) -> files.ScenarioPart:
    return files.ScenarioPart(
        faults=[
            files.PlannedFault(
                at=round(planned.at, 3),
                lasting=round(planned.lasting, 3),
                kind=planned.fault.kind,
                role=planned.fault.role,
                parameters=results.plain(planned.fault.parameters()),
            )
            for planned in one.scenario.faults
        ],
        discriminates=one.discriminates.invariant.__name__,
        at_least=one.discriminates.at_least,
    )
