"""A step load from the command line: climb, tell each step as it ends, draw, and say where the knee is."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests import curve, steps
from loadtests.knee import Measured, Status, Step, knee
from loadtests.steps import Climbed, Plan

MEASURED, FAILED, UNKNOWN, INTERRUPTED = 0, 1, 3, 130
ROW = "{:>9}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {}\n"
HEAD = ROW.format("offered/s", "ok/s", "goodput", "p50 ms", "p99 ms", "max ms", "attempts", "late ms", "").rstrip()


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded: its name, what one of its operations is called, its base URL, and Locust's command line for it.

    `argv` lacks rate, seconds, seed and files.
    """

    system: str
    operations: str
    host: str
    argv: Sequence[str]


def run(target: Target, plan: Plan, root: Path) -> int:
    """Leaves its files in `.lab/load/<run>` below `root`; returns the exit code."""
    folder = steps.create_folder(root, target.system, plan.seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _say(
        f"{len(plan.rates)} steps of {plan.seconds:g} s, {plan.rates[0]:g} to {plan.rates[-1]:g} {target.operations}/s: "
        f"about {plan.minutes:.1f} minutes, fewer if the knee comes early.\n{HEAD}\n"
    )
    climbed = steps.walk(plan.rates, steps.Staircase(target.argv, folder, plan).perform, _tell)
    return _conclude(target, plan, folder, climbed)


def _conclude(target: Target, plan: Plan, folder: Path, climbed: Climbed) -> int:
    counted = tuple(one.step for one in climbed.steps)
    found = knee(counted, plan.bounds)
    page = curve.write(
        folder,
        curve.CurveFile(
            schema=1,
            system=target.system,
            operations=target.operations,
            host=target.host,
            at=curve.now(),
            seed=plan.seed,
            step_seconds=plan.seconds,
            warm_up_seconds=plan.warm_up,
            p99_bound_ms=plan.bounds.p99_ms,
            ok_share_bound=plan.bounds.ok_share,
            planned=plan.rates,
            knee=found,
            steps=counted,
            superseded=tuple(one.superseded for one in climbed.steps if one.superseded is not None),
            problem=climbed.problem,
            machine=curve.machine(),
        ),
    )
    if climbed.problem:
        _say(f"{climbed.problem}\n")
    _say(f"\n{found.sentence}\ncurve: {page}\n")
    if climbed.problem:
        return INTERRUPTED if climbed.interrupted else FAILED
    _say(f"KNEE {target.system} {found.told}\n")
    return MEASURED if any(step.status is not Status.GENERATOR for step in counted) else UNKNOWN


def _tell(one: Measured) -> None:
    if one.superseded is not None:
        _say(_row(one.superseded, f"{one.superseded.reason} (measured twice, does not count)"))
    _say(_row(one.step, one.step.reason))


def _row(step: Step, remark: str) -> str:
    cells = (
        _figure(step.offered_per_second, 1),
        _figure(step.throughput_per_second, 1),
        f"{step.ok_share:.1%}",
        *(_figure(value) for value in (step.p50_ms, step.p99_ms, step.max_ms)),
        _figure(step.attempts, 2),
        _figure(step.lag_p99_ms),
    )
    return ROW.format(*cells, remark).rstrip() + "\n"


def _figure(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
