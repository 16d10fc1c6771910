"""After settle: every invariant of every system, and whether anything grew. One trial a system, and one for the house."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labs.engine.model import Evidence, EvidenceError, Figure, Finding, NotApplicableError, Status
from labs.engine.probing import CHECKER_SECONDS, check_all, crash
from labs.engine.reconcile import reconcile
from labs.engine.trial import Trial
from labs.engine.verdict import Judgement, judge_trial, worst
from labs.invariants import webhooks
from labs.soak import growth
from labs.soak.growth import MIB, ProcessFigures
from labs.soak.house import House, Outcome
from labs.soak.loads import all_of
from labs.soak.systems import HOUSE, TIMED, System

HOUSE_NAME = "house"
SAMPLES, SIZES = "the processes' own /proc, each few seconds", "the stores, before the load and after it"


@dataclass(frozen=True, slots=True)
class Judged:
    """The trials in the order of the systems, then the house. `left_out` says what was measured and not judged, and why."""

    trials: tuple[Trial, ...]
    judgement: Judgement
    processes: tuple[ProcessFigures, ...]
    left_out: tuple[str, ...]


async def judge(house: House, minutes: float) -> Judged:
    """Raises nothing: what cannot be read or crashes is a finding or a problem."""
    outcome = house.outcome
    trials = [await _judge_system(house, system) for system in house.systems]
    processes = growth.figures(outcome.samples, outcome.load, minutes)
    last, left_out = await _judge_house(house, processes, minutes)
    trials.append(last)
    judged = [judge_trial(trial.summary) for trial in trials]
    reasons = dict.fromkeys(reason for one in judged for reason in one.reasons)
    return Judged(
        tuple(trials), Judgement(worst(one.verdict for one in judged), tuple(reasons)), tuple(processes), left_out
    )


def _trial(outcome: Outcome, name: str) -> Trial:
    trial = Trial("main", name, HOUSE, outcome.prefix)
    trial.phases = outcome.phases
    trial.unsettled = list(outcome.unsettled.get(name, ()))
    return trial


async def _judge_system(house: House, system: System) -> Trial:
    outcome = house.outcome
    trial = _trial(outcome, system.name)
    trial.history = all_of(outcome.history, system.sources[:1])
    trial.recovery_seconds = outcome.recovery_seconds
    if outcome.problems and "rest" not in outcome.sizes:
        trial.problems.append(outcome.problems[0])
        return trial
    evidence = house.evidence(system)
    findings = await check_all(system.invariants, evidence)
    trial.findings = {name: in_doubt(name, found, outcome.disturbed) for name, found in findings.items()}
    await _reconcile(trial, system, evidence)
    return trial


def in_doubt(name: str, found: Finding, disturbed: str) -> Finding:
    """What is judged by the clock is not held against anybody on a machine that could not keep time."""
    if disturbed and name in TIMED and found.status is Status.BROKEN:
        return Finding.unknown(f"{disturbed}; it would have been broken {found.count} times ({found.note})")
    return found


async def _reconcile(trial: Trial, system: System, evidence: Evidence) -> None:
    if system.found is None:
        return
    try:
        async with asyncio.timeout(CHECKER_SECONDS):
            trial.reconciliation = reconcile(evidence.history, await system.found(evidence))
    except (NotApplicableError, EvidenceError) as reason:
        trial.problems.append(f"{system.name} could not be reconciled: {reason}")
    except Exception as error:  # noqa: BLE001  a checker that crashes is a result: unknown
        trial.problems.append(f"{system.name} could not be reconciled: {crash(error)}")


async def _judge_house(
    house: House, processes: Sequence[ProcessFigures], minutes: float
) -> tuple[Trial, tuple[str, ...]]:
    outcome = house.outcome
    trial = _trial(outcome, HOUSE_NAME)
    trial.faults = outcome.faults
    trial.probes = outcome.probes
    trial.problems = list(outcome.problems)
    trial.crashed = outcome.crashed
    left_out: list[str] = []
    findings = {"memory_fits": growth.memory_fits(outcome.samples)}
    if outcome.load[1] > outcome.load[0]:
        findings["descriptors_do_not_grow"] = growth.descriptors_do_not_grow(outcome.samples, outcome.load, minutes)
    if minutes >= growth.JUDGED_FROM_MINUTES:
        findings["memory_is_flat"] = growth.memory_is_flat(processes)
    else:
        left_out.append(
            f"slopes of memory and of open files: they are judged from {growth.JUDGED_FROM_MINUTES} minutes on"
        )
    if {"start", "settled", "rest"} <= outcome.sizes.keys():
        findings |= _of_sizes(outcome, await _unexplained(house, trial))
        if outcome.sizes["rest"].logs is None:
            findings.pop("logs_are_bounded")
            left_out.append("logs_are_bounded: this runtime keeps the logs elsewhere")
    trial.findings = findings
    trial.figures = tuple(_figures(outcome, processes))
    return trial, tuple(left_out)


def _of_sizes(outcome: Outcome, unexplained: Sequence[str]) -> dict[str, Finding]:
    start, settled, rest = (outcome.sizes[moment] for moment in ("start", "settled", "rest"))
    sent: Mapping[str, int] = {name: len(operations) for name, operations in outcome.history.items()}
    return {
        "tables_are_bounded": growth.tables_are_bounded(start, rest, sent),
        "topics_are_bounded": growth.topics_are_bounded(start, rest, sent),
        "nothing_grows_at_rest": growth.nothing_grows_at_rest(settled, rest),
        "outboxes_are_empty": growth.outboxes_are_empty(rest),
        "dead_letters_are_explained": growth.dead_letters_are_explained(rest, unexplained),
        "logs_are_bounded": growth.logs_are_bounded(rest),
        "slots_keep_little": growth.slots_keep_little(rest),
    }


async def _unexplained(house: House, trial: Trial) -> list[str]:
    """Deliveries in the dead letters whose receiver no fault struck."""
    evidence = house.evidence(None)
    try:
        states, struck = await webhooks.states(evidence), webhooks.struck(evidence)
    except EvidenceError as reason:
        trial.problems.append(f"the dead letters could not be read: {reason}")
        return []
    return [
        f"{pair}: dead, and nothing was wrong with its receiver"
        for pair, state in sorted(states.items())
        if state == "dead" and pair.receiver not in struck
    ]


def _figures(outcome: Outcome, processes: Sequence[ProcessFigures]) -> list[Figure]:
    found = [
        Figure(f"memory slope of {one.service}", _slope(one), "MiB/h", SAMPLES,
               growth.STEEPEST_MIB_PER_HOUR if one.judged else None)
        for one in processes
    ]  # fmt: skip
    lag = outcome.lag_ms()
    found.append(
        Figure("generators' own lateness, p99", None if lag is None else round(lag, 1), "ms", "client history")
    )
    return found


def _slope(one: ProcessFigures) -> float | None:
    return None if one.trend is None else round(one.trend.per_hour / MIB, 2)
