"""One soak from the command to its verdict: servers up, the house run and judged, files and report written, all down."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console

from infra.runtime import Runtime, RuntimeProblem
from labs.chaos.context import ByHand
from labs.engine import files, folder
from labs.engine.annotate import MarkingDisplay, Marks, told_to_prometheus
from labs.engine.clock import RunClock
from labs.engine.display import open_display
from labs.engine.load import LOCUST
from labs.engine.lock import one_lab
from labs.engine.model import Verdict
from labs.engine.run import EXIT_CODES, LARGEST_CLOCK_STEP_SECONDS, Infrastructure, PlatformFactory
from labs.engine.timing import Timing
from labs.engine.world import StorePlatform, World
from labs.faults.full_disk import require_mount_right, used_bytes
from labs.soak import results
from labs.soak.deck import Drawn, Group, cards, drawn
from labs.soak.house import House
from labs.soak.judging import judge
from labs.soak.summary import show
from labs.soak.systems import HOUSE, INFRASTRUCTURE
from labs.soak.timing import SoakTiming

DISK_OF = "kafka"
FITS_BYTES = 48 << 20
"""What the broker may hold before its disk is made 64 MiB small: 8 MiB must stay free, and it goes on writing."""


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """`minutes` of load in all, `seed` of arrivals and faults."""

    minutes: int
    seed: int


async def soak(
    options: SoakOptions,
    *,
    runtime: Runtime,
    root: Path,
    console: Console,
    platform: PlatformFactory = StorePlatform,
    generator: Sequence[str] = LOCUST,
) -> int:
    """The exit code. Cancelled, it takes back all faults and stops what it started. Raises RuntimeProblem.

    `platform` and `generator` are for tests.
    """
    with one_lab(root, f"A soak of {options.minutes} minutes"):
        async with aiohttp.ClientSession(trust_env=False) as http:
            display, clock = open_display(console), RunClock()
            infrastructure = Infrastructure(runtime, display, frozenset(INFRASTRUCTURE))
            timing = SoakTiming(options.minutes)
            world = World(
                runtime=runtime,
                platform=platform(runtime, http, clock),
                session=http,
                clock=clock,
                display=MarkingDisplay(display, marks := Marks(), results.NAME),
                timing=Timing(timing.warm_up, timing.baseline, timing.inject, 1.0, timing.load),
                seed=options.seed,
                root=root,
                folder=folder.create(root, results.NAME, clock, options.seed),
                generator=generator,
            )
            try:
                await infrastructure.ensure(INFRASTRUCTURE, root)
                with told_to_prometheus(marks, runtime, root):
                    verdict = await _soak(world, timing, console)
            finally:
                await infrastructure.close(kept=False)
    return EXIT_CODES[verdict]


async def _soak(world: World, timing: SoakTiming, console: Console) -> Verdict:
    by_hand = ByHand(world.runtime, world.session, world.root)
    planned = drawn(
        cards(lambda _, service: by_hand.volume(service)),
        seed=world.seed,
        seconds=timing.inject,
        minutes=timing.minutes,
    )
    possible, not_done = sorted_out(planned, why_no_small_disk(by_hand))
    world.display.say(_announced(world, timing, possible, not_done))
    files.write(world.folder / "experiment.json", results.experiment_file(world, timing, planned))
    if left := await world.platform.drop():
        world.display.say(f"Of earlier runs, something is left: {left}")
    house = House(world, timing, [one.scheduled for one in possible])
    try:
        await house.run()
        judged = await judge(house, timing.minutes)
        if judged.judgement.verdict is not Verdict.PASS:
            await house.keep_logs()
    finally:
        await house.leave()
    document = results.write_all(world, house.outcome, judged, not_done)
    _report(world, house, document)
    if judged.judgement.verdict is Verdict.PASS:
        shutil.rmtree(world.folder / "raw", ignore_errors=True)
    folder.link_latest(world.folder)
    show(console, world, house.outcome, judged, not_done)
    if abs(drift := world.clock.wall_drift()) > LARGEST_CLOCK_STEP_SECONDS:
        console.print(
            f"- the wall clock moved by {drift:.1f} s during the soak: times of the stores are off by as much"
        )
    console.print(f"VERDICT {results.NAME} {judged.judgement.verdict.value}", markup=False, highlight=False)
    folder.prune(world.folder)
    return judged.judgement.verdict


def _report(world: World, house: House, document: files.VerdictFile) -> None:
    from labs.soak.report import write_report  # the drawing library takes a second to load

    write_report(world.folder, outcome=house.outcome, document=document)


def why_no_small_disk(by_hand: ByHand) -> str:
    """A sentence why no disk can be filled on this machine, or "". Leaves no trace."""
    try:
        volume = by_hand.volume(DISK_OF).resolve()
        require_mount_right(volume)
        used = used_bytes(volume)
    except (RuntimeProblem, OSError) as problem:
        return str(problem)
    if used > FITS_BYTES:
        return (
            f"The volume of {DISK_OF} holds {used >> 20} MiB, too much for a disk of 64 MiB; 'make clean' empties it."
        )
    return ""


def sorted_out(planned: Sequence[Drawn], no_disk: str) -> tuple[list[Drawn], list[str]]:
    """What can be done here, and sentences on what cannot. The draw is the same everywhere."""
    if not no_disk:
        return list(planned), []
    possible = [one for one in planned if one.card.group is not Group.DISK]
    return possible, [f"{one.card.name}: {no_disk}" for one in planned if one.card.group is Group.DISK]


def _announced(world: World, timing: SoakTiming, possible: Sequence[Drawn], not_done: Sequence[str]) -> str:
    services = len(HOUSE.processes) + len(INFRASTRUCTURE)
    head = f"soak: {services} services, {timing.minutes:g} minutes of load, {len(possible)} faults drawn from seed {world.seed}"
    return "\n".join([head, *(f"not done: {one}" for one in not_done)])
