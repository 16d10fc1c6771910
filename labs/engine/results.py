"""From what happened to the files of the run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from labs.engine.files import (
    CountPart,
    FaultLine,
    FigurePart,
    HistoryLine,
    InvariantPart,
    LatencyPart,
    MetricPart,
    Plain,
    ProbeLine,
    ReceiptPart,
    ReconcileFile,
    ReconcilePart,
    ScenarioVerdict,
    VariantVerdict,
    VerdictFile,
)
from labs.engine.model import FaultRecord, Figure, Finding, Json, Lab
from labs.engine.reconcile import KEPT, Count
from labs.engine.steady import latency_of
from labs.engine.trial import Trial
from labs.engine.verdict import Judgement, judge_trial, worst, worst_status


def rounded(seconds: float | None) -> float | None:
    """Microseconds are more than any clock here knows."""
    return None if seconds is None else round(seconds, 6)


def plain(values: Mapping[str, Json]) -> dict[str, Plain]:
    """JSON values are JSON values; only the type checker needs to hear it."""
    return cast("dict[str, Plain]", dict(values))


def history_lines(trial: Trial) -> list[HistoryLine]:
    """The client's operations in order of intended time."""
    return [
        HistoryLine(
            scenario=trial.scenario,
            variant=trial.name,
            phase=one.phase,
            id=one.id,
            key=one.key,
            kind=one.kind,
            intended_at=round(one.intended_at, 6),
            sent_at=rounded(one.sent_at),
            done_at=rounded(one.done_at),
            attempts=one.attempts,
            status=one.status,
            outcome=one.outcome,
            error=one.error,
            result=dict(one.result),
        )
        for one in trial.history
    ]


def fault_lines(trial: Trial) -> list[FaultLine]:
    """Two lines a fault, in order of time; a fault that never began has an inject line with its error."""
    lines = [line for record in trial.faults for line in _lines_of(trial, record)]
    return sorted(lines, key=lambda line: line.at)


def _lines_of(trial: Trial, record: FaultRecord) -> Iterable[FaultLine]:
    common = {
        "scenario": trial.scenario,
        "variant": trial.name,
        "kind": record.kind,
        "role": record.role,
        "target": record.target,
        "parameters": plain(record.parameters),
    }
    at = record.planned_at if record.injected_at is None else record.injected_at
    error = record.error if record.receipt is None else None
    yield FaultLine(event="inject", at=round(at, 6), error=error, **common)  # type: ignore[arg-type]  # as named above
    if record.healed_at is not None:
        receipt = None
        if record.receipt is not None:
            r = record.receipt
            receipt = ReceiptPart(proven=r.proven, summary=r.summary, facts=plain(r.facts))
        yield FaultLine(
            event="heal",
            at=round(record.healed_at, 6),
            receipt=receipt,
            error=record.error if record.receipt is not None else None,
            **common,  # type: ignore[arg-type]  # as named above
        )


def probe_lines(trial: Trial) -> list[ProbeLine]:
    """Steady state before and after, and how long each recovery took."""
    return [
        ProbeLine(
            scenario=trial.scenario,
            variant=trial.name,
            phase=one.phase,
            at=round(one.at, 6),
            name=one.probe.name,
            ok=one.probe.ok,
            value=one.probe.value,
            limit=one.probe.limit,
            unit=one.probe.unit,
            source=one.probe.source,
            note=one.note,
        )
        for one in trial.probes
    ]


def reconcile_file(trials: Sequence[Trial]) -> ReconcileFile:
    """Trials that came to reconcile."""
    scenarios: dict[str, dict[str, ReconcilePart]] = {}
    for trial in trials:
        if (r := trial.reconciliation) is not None:
            scenarios.setdefault(trial.scenario, {})[trial.name] = ReconcilePart(
                attempted=r.attempted,
                acknowledged=r.acknowledged,
                found=r.found,
                lost=_count(r.lost),
                duplicated=_count(r.duplicated),
                recovered=_count(r.recovered),
                unexpected=_count(r.unexpected),
                contradicted=_count(r.contradicted),
            )
    return ReconcileFile(scenarios=scenarios)


def _count(count: Count) -> CountPart:
    return CountPart(count=count.count, ids=list(count.ids))


def verdict_file(lab: Lab, trials: Sequence[Trial], judgement: Judgement, *, seconds: float) -> VerdictFile:
    """The worst over the scenarios on top. `seconds` since the start of the run."""
    scenarios: dict[str, dict[str, VariantVerdict]] = {}
    for trial in trials:
        scenarios.setdefault(trial.scenario, {})[trial.name] = variant_verdict([trial])
    names = list(dict.fromkeys(trial.name for trial in trials))
    return VerdictFile(
        lab=lab.name,
        verdict=judgement.verdict,
        seconds=round(seconds, 1),
        reasons=list(judgement.reasons),
        metrics=_metrics(lab, trials),
        variants={name: variant_verdict([t for t in trials if t.name == name]) for name in names},
        scenarios={name: ScenarioVerdict(variants=variants) for name, variants in scenarios.items()},
    )


def variant_verdict(trials: Sequence[Trial]) -> VariantVerdict:
    """One variant over the given scenarios: its worst findings, its slowest recovery, all its latencies."""
    judged = [judge_trial(trial.summary) for trial in trials]
    names = dict.fromkeys(name for trial in trials for name in trial.findings)
    latency = latency_of(one for trial in trials for one in trial.history if one.phase.value != "control")
    recoveries = [trial.recovery_seconds for trial in trials]
    known = [seconds for seconds in recoveries if seconds is not None]
    return VariantVerdict(
        role=trials[0].variant.role,
        verdict=worst(one.verdict for one in judged),
        invariants={name: _invariant([t.findings[name] for t in trials if name in t.findings]) for name in names},
        latency_ms=None
        if latency is None
        else LatencyPart(p50=latency.p50, p95=latency.p95, p99=latency.p99, max=latency.max),
        recovery_seconds=max(known) if len(known) == len(recoveries) else None,
        reasons=list(dict.fromkeys(reason for one in judged for reason in one.reasons)),
        figures=[_figure(trial, one) for trial in trials for one in trial.figures],
    )


def _figure(trial: Trial, one: Figure) -> FigurePart:
    return FigurePart(
        name=one.name,
        value=one.value,
        unit=one.unit,
        source=one.source,
        limit=one.limit,
        scenario=trial.scenario,
    )


def _invariant(findings: Sequence[Finding]) -> InvariantPart:
    status = worst_status(finding.status for finding in findings)
    decisive = [finding for finding in findings if finding.status is status]
    offenders = [offender for finding in decisive for offender in finding.offenders]
    return InvariantPart(
        status=status,
        count=sum(finding.count for finding in decisive),
        offenders=offenders[:KEPT],
        note="; ".join(dict.fromkeys(finding.note for finding in decisive if finding.note)),
    )


def _metrics(lab: Lab, trials: Sequence[Trial]) -> dict[str, MetricPart]:
    found: dict[str, MetricPart] = {}
    for trial in trials:
        for metric in lab.metrics:
            if metric.name in trial.metrics:
                name = (
                    f"{trial.name}.{metric.name}"
                    if trial.scenario == "main"
                    else f"{trial.scenario}.{trial.name}.{metric.name}"
                )
                source = f"Prometheus: {metric.promql}"
                found[name] = MetricPart(value=trial.metrics[metric.name], unit=metric.unit, source=source)
    return found
