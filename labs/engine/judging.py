"""After settle: invariants, reconcile, metrics, and the story of one offender."""

from __future__ import annotations

import asyncio

from labs.engine.clock import RunClock
from labs.engine.model import Evidence, EvidenceError, Finding, Lab, NotApplicableError, StoryLine, VariantRole
from labs.engine.planning import Plan
from labs.engine.probing import CHECKER_SECONDS, check_all, crash
from labs.engine.reconcile import reconcile
from labs.engine.trial import Trial


async def judge(trial: Trial, lab: Lab, plan: Plan, evidence: Evidence, clock: RunClock) -> None:
    """Fill in what the trial shows. Raises nothing: what cannot be read or crashes is a finding or a problem."""
    trial.findings = await check_all(plan.scenario.invariants or (), evidence)
    await _reconcile(trial, lab, evidence)
    await _take_figures(trial, lab, evidence)
    for metric in lab.metrics:
        try:
            trial.metrics[metric.name] = await evidence.metric(metric.promql)
        except EvidenceError:
            trial.metrics[metric.name] = None
    finding = trial.findings[plan.discriminates.invariant.__name__]
    if trial.variant.role is VariantRole.NAIVE and (early := before_any_fault(trial, finding)):
        trial.problems.append(
            f"{trial.name} broke {plan.discriminates.invariant.__name__} {early} times before any fault: "
            "it is broken for another reason"
        )
    if finding.offenders:
        await _tell(trial, lab, evidence, clock, finding.offenders[0])


def before_any_fault(trial: Trial, finding: Finding) -> int:
    """Offenders whose operation had ended before the first fault; no fault can have made them offend."""
    begun = [one.begun_at for one in trial.faults if one.begun_at is not None]
    first = min(begun, default=None)
    if first is None:
        return 0
    ended = {one.key for one in trial.history if one.done_at is not None and one.done_at < first}
    return len(ended.intersection(finding.offenders))


async def _reconcile(trial: Trial, lab: Lab, evidence: Evidence) -> None:
    if lab.found is None:
        return
    try:
        found = await lab.found(evidence)
        ours = {key: effects for key, effects in found.items() if key not in trial.elsewhere}
        trial.reconciliation = reconcile(evidence.history, ours)
    except (NotApplicableError, EvidenceError) as reason:
        trial.problems.append(f"{trial.name} could not be reconciled: {reason}")
    except Exception as error:  # noqa: BLE001  a checker that crashes is a result: unknown
        trial.problems.append(f"{trial.name} could not be reconciled: {crash(error)}")


async def _take_figures(trial: Trial, lab: Lab, evidence: Evidence) -> None:
    if lab.figures is None:
        return
    try:
        async with asyncio.timeout(CHECKER_SECONDS):
            trial.figures = tuple(await lab.figures(evidence))
    except NotApplicableError:
        return
    except EvidenceError as reason:
        trial.problems.append(f"the figures of {trial.name} could not be read: {reason}")
    except TimeoutError:
        trial.problems.append(f"the figures of {trial.name} took longer than {CHECKER_SECONDS:.0f} s")
    except Exception as error:  # noqa: BLE001  as a checker that crashes: unknown
        trial.problems.append(f"the figures of {trial.name} could not be taken: {crash(error)}")


async def _tell(trial: Trial, lab: Lab, evidence: Evidence, clock: RunClock, offender: str) -> None:
    if lab.story is None:
        return
    trial.story_of = offender
    try:
        trial.story = tuple(await lab.story(evidence, offender))
    except Exception as error:  # noqa: BLE001  the story is decoration: the verdict stands without it
        trial.story = (StoryLine(clock.now(), "report", f"no story: {crash(error)}"),)
