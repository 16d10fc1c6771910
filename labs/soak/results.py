"""The files of a soak, in the format of the labs' where that fits, and two of its own: samples.jsonl and growth.json."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from infra.docker.engine import stand_ins
from labs.engine import files, folder, results
from labs.engine.files import Line
from labs.engine.model import VariantRole
from labs.engine.trial import Trial
from labs.engine.world import World
from labs.soak.deck import Drawn
from labs.soak.growth import ProcessFigures
from labs.soak.house import Outcome
from labs.soak.judging import Judged
from labs.soak.sizes import Sizes
from labs.soak.systems import HOUSE, INFRASTRUCTURE, SOURCES
from labs.soak.timing import SoakTiming

NAME = "soak"
TITLE = "Everything at once"
QUESTION = (
    "All services of all weeks run at once, under mixed load, and for minutes on end something is always wrong with one of"
    " them. Once all is healed: does every promise of every service still hold, and has anything grown that should not?"
)
HYPOTHESIS = (
    "What holds in a lab of one service and three minutes holds in a house of all of them: they share a database server, a"
    " broker and two cores, and none of them relies on having them to itself."
)


class ProcessPart(msgspec.Struct, frozen=True, kw_only=True):
    """One service. Bytes; the slope in MiB per hour over the second half of the load, None where no life was long enough."""

    service: str
    lives: int
    memory_first: int
    memory_last: int
    memory_peak: int
    slope_mib_per_hour: float | None
    fitted_seconds: float
    judged: bool
    descriptors_first: int | None
    descriptors_last: int | None


class GrowthFile(Line, frozen=True, kw_only=True):
    """growth.json: by moment (start, end of the load, settled, rest) how large everything was, and each process."""

    sizes: dict[str, Sizes]
    processes: list[ProcessPart]
    left_out: list[str]
    not_done: list[str]


def growth_file(outcome: Outcome, judged: Judged, not_done: Sequence[str]) -> GrowthFile:
    """As measured."""
    return GrowthFile(
        sizes=outcome.sizes,
        processes=[_process(one) for one in judged.processes],
        left_out=list(judged.left_out),
        not_done=list(not_done),
    )


def _process(one: ProcessFigures) -> ProcessPart:
    return ProcessPart(
        service=one.service,
        lives=one.lives,
        memory_first=one.first,
        memory_last=one.last,
        memory_peak=one.peak,
        slope_mib_per_hour=None if one.trend is None else round(one.trend.per_hour / (1 << 20), 3),
        fitted_seconds=0.0 if one.trend is None else round(one.trend.seconds, 1),
        judged=one.judged,
        descriptors_first=one.descriptors_first,
        descriptors_last=one.descriptors_last,
    )


def verdict_file(judged: Judged, seconds: float) -> files.VerdictFile:
    """A variant for each system, and the house: all engineered, in one scenario."""
    variants = {trial.name: results.variant_verdict([trial]) for trial in judged.trials}
    return files.VerdictFile(
        lab=NAME,
        verdict=judged.judgement.verdict,
        seconds=round(seconds, 1),
        reasons=list(judged.judgement.reasons),
        metrics={},
        variants=variants,
        scenarios={"main": files.ScenarioVerdict(variants=variants)},
    )


def experiment_file(world: World, timing: SoakTiming, planned: Sequence[Drawn]) -> files.Experiment:
    """Before anything has started."""
    images = folder.images(world.root, sorted({*INFRASTRUCTURE, *HOUSE.processes}))
    return files.Experiment(
        lab=NAME,
        title=TITLE,
        question=QUESTION,
        hypothesis=HYPOTHESIS,
        prediction=None,
        variants={
            "all": files.VariantPart(
                role=VariantRole.ENGINEERED,
                title=HOUSE.title,
                roles=dict(HOUSE.roles),
                edges=dict(HOUSE.edges),
                processes=list(HOUSE.processes),
                environment=dict(HOUSE.environment),
            )
        },
        scenarios={"main": files.ScenarioPart(faults=[_planned(one) for one in planned], discriminates="", at_least=0)},
        seed=world.seed,
        load=files.LoadPart(
            script=", ".join(one.load.script for one in SOURCES),
            rate=sum(one.load.rate for one in SOURCES),
            max_in_flight=sum(one.load.max_in_flight for one in SOURCES),
            control_seconds=timing.warm_up,
            baseline_seconds=timing.baseline,
            inject_seconds=timing.inject,
        ),
        short=False,
        options={"minutes": timing.minutes},
        started_at=world.clock.wall.isoformat(),
        commit=folder.commit(world.root),
        versions=folder.versions(),
        host=folder.host(),
        runtime=world.runtime.name,
        images=images,
        stand_ins=stand_ins(images.values()) if world.runtime.name == "docker" else [],
        configuration_hash=folder.configuration_hash(world.root, world.root / "labs" / "soak"),
    )


def _planned(one: Drawn) -> files.PlannedFault:
    return files.PlannedFault(
        at=one.at,
        lasting=one.lasting,
        kind=one.fault.kind,
        role=one.fault.role,
        parameters=results.plain(one.fault.parameters()),
    )


def write_all(world: World, outcome: Outcome, judged: Judged, not_done: Sequence[str]) -> files.VerdictFile:
    """All but the report. Raises OSError."""
    path = world.folder
    for trial in judged.trials:
        files.append(path / "history.jsonl", results.history_lines(trial))
    house: Trial = judged.trials[-1]
    files.append(path / "faults.jsonl", results.fault_lines(house))
    files.append(path / "probes.jsonl", results.probe_lines(house))
    files.append(path / "samples.jsonl", outcome.samples)
    files.write(path / "reconcile.json", results.reconcile_file(judged.trials))
    files.write(path / "growth.json", growth_file(outcome, judged, not_done))
    document = verdict_file(judged, world.clock.now())
    files.write(path / "verdict.json", document)
    return document
