"""From findings to a verdict: pure functions. `fail` outranks `unknown` outranks `pass`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from labs.engine.model import Finding, Status, VariantRole, Verdict

NOT_DISCRIMINATING = "the experiment does not discriminate"
_RANK = {Verdict.PASS: 0, Verdict.UNKNOWN: 1, Verdict.FAIL: 2}


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """All that the verdict depends on, of one variant in one scenario.

    `problems` are sentences about the experiment itself: a fault without receipt, a baseline that was not steady, a heal
    that failed, a slow generator. Any of them makes the trial unknown. `unsettled` names what did not recover in time.
    `crashed` names processes that died on their own.
    """

    scenario: str
    variant: str
    role: VariantRole
    findings: Mapping[str, Finding] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    crashed: tuple[str, ...] = ()
    may_lack: bool = False
    """A learner's own variant: what speaks of tables that it does not have is not held against it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a scenario promises of its naive variants (`by`; None: all): to break `invariant` with so many offenders."""

    invariant: str
    at_least: int
    by: tuple[str, ...] | None = None

    def decides_on(self, naive: str) -> bool:
        """Whether it is promised of this variant."""
        return self.by is None or naive in self.by


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the sentences that explain anything but a plain pass."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The highest ranking; `unknown` if there is none, because nothing was shown."""
    return max(verdicts, key=_RANK.__getitem__, default=Verdict.UNKNOWN)


def worst_status(statuses: Iterable[Status]) -> Status:
    """Over scenarios: broken, then unknown, then not applicable, then held."""
    order = [Status.HELD, Status.NOT_APPLICABLE, Status.UNKNOWN, Status.BROKEN]
    return max(statuses, key=order.index, default=Status.UNKNOWN)


def judge_trial(trial: TrialSummary) -> Judgement:
    """Did this variant hold everything? The same yardstick for every role."""
    broken = [
        f"{trial.variant} broke {name}: {_offenders(finding)}"
        for name, finding in trial.findings.items()
        if finding.status is Status.BROKEN
    ]
    broken += [f"{trial.variant} did not recover in time: {what}" for what in trial.unsettled]
    broken += [f"{trial.variant} lost a process: {who}" for who in trial.crashed]
    doubts = list(trial.problems)
    lacking_is_fine = trial.may_lack and any(one.status is Status.HELD for one in trial.findings.values())
    doubts += [
        f"{trial.variant}: {name} is {finding.status.value.replace('_', ' ')}{_because(finding)}"
        for name, finding in trial.findings.items()
        if finding.status is Status.UNKNOWN or (finding.status is Status.NOT_APPLICABLE and not lacking_is_fine)
    ]
    if not trial.findings and not doubts:
        doubts.append(f"{trial.variant} was not judged by any invariant")
    if broken:
        return Judgement(Verdict.FAIL, (*broken, *doubts))
    return Judgement(Verdict.UNKNOWN if doubts else Verdict.PASS, tuple(doubts))


def judge_naive(trial: TrialSummary, claim: Claim) -> Judgement:
    """Did the naive variant break just what the lab says it breaks? Crashing is not breaking."""
    if trial.problems:
        return Judgement(Verdict.UNKNOWN, trial.problems)
    finding = trial.findings.get(claim.invariant)
    if finding is None or finding.status is Status.UNKNOWN:
        note = "" if finding is None else _because(finding)
        return Judgement(Verdict.UNKNOWN, (f"{trial.variant}: {claim.invariant} could not be judged{note}",))
    if finding.status is Status.BROKEN and finding.count >= claim.at_least:
        return Judgement(Verdict.PASS)
    return Judgement(Verdict.FAIL, (f"{NOT_DISCRIMINATING}: {_why_not(trial, finding, claim)}",))


def judge_lab(trials: Sequence[TrialSummary], claims: Mapping[str, Claim]) -> Judgement:
    """The lab's verdict over all scenarios (`claims` by scenario). Compared variants decide nothing."""
    judged = [
        judge_naive(trial, claims[trial.scenario]) if trial.role is VariantRole.NAIVE else judge_trial(trial)
        for trial in trials
        if _decides(trial, claims)
    ]
    verdict = worst(judgement.verdict for judgement in judged)
    reasons = [reason for judgement in judged for reason in judgement.reasons]
    return Judgement(verdict, tuple(dict.fromkeys(reasons)))


def _decides(trial: TrialSummary, claims: Mapping[str, Claim]) -> bool:
    if trial.role is VariantRole.NAIVE:
        return claims[trial.scenario].decides_on(trial.variant)
    return trial.role is VariantRole.ENGINEERED


def _why_not(trial: TrialSummary, finding: Finding, claim: Claim) -> str:
    crashed = f"; it lost {', '.join(trial.crashed)}, and crashing is not breaking" if trial.crashed else ""
    if finding.status is Status.BROKEN:
        return f"{trial.variant} broke {claim.invariant} {finding.count} times, at least {claim.at_least} are needed{crashed}"
    if finding.status is Status.NOT_APPLICABLE:
        return f"{claim.invariant} does not apply to {trial.variant}{_because(finding)}{crashed}"
    return f"{trial.variant} held {claim.invariant}{crashed}"


def _offenders(finding: Finding) -> str:
    names = ", ".join(finding.offenders[:3])
    more = ", ..." if finding.count > len(finding.offenders[:3]) else ""
    return f"{finding.count} ({names}{more})" if names else str(finding.count)


def _because(finding: Finding) -> str:
    return f" ({finding.note})" if finding.note else ""
