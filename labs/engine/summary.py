"""What stands on the screen at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from labs.engine.files import FigurePart, InvariantPart, VariantVerdict, VerdictFile
from labs.engine.model import Outcome, Phase, Status
from labs.engine.trial import Trial

STYLES = {Status.HELD: "green", Status.BROKEN: "red", Status.UNKNOWN: "yellow", Status.NOT_APPLICABLE: "dim"}


def cell(part: InvariantPart | None) -> str:
    """`held`, `broken 17`, `unknown`, `not applicable`."""
    if part is None:
        return "not judged"
    return f"broken {part.count}" if part.status is Status.BROKEN else part.status.value.replace("_", " ")


def figures(variant: VariantVerdict, trials: Sequence[Trial]) -> dict[str, str]:
    """The rows below the invariants, as text."""
    operations = [one for trial in trials for one in trial.history if one.phase is not Phase.CONTROL]
    told = {outcome: sum(one.outcome is outcome for one in operations) for outcome in Outcome}
    latency, recovery = variant.latency_ms, variant.recovery_seconds
    return {
        "operations": str(len(operations)),
        "acknowledged": str(told[Outcome.OK]),
        "told failed": str(told[Outcome.FAIL]),
        "unknown to the client": str(told[Outcome.UNKNOWN]),
        "p50 / p99 / max": "-" if latency is None else f"{latency.p50:.0f} / {latency.p99:.0f} / {latency.max:.0f} ms",
        "recovered after heal": _recovered(recovery, trials),
    }


def _recovered(seconds: float | None, trials: Sequence[Trial]) -> str:
    if seconds is not None:
        return f"{seconds:.1f} s"
    return "no" if any(trial.faults for trial in trials) else "-"


def table(document: VerdictFile, trials: Sequence[Trial]) -> Table:
    """Variants side by side."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("")
    for name in document.variants:
        shown.add_column(name)
    names = dict.fromkeys(name for variant in document.variants.values() for name in variant.invariants)
    for name in names:
        parts = [variant.invariants.get(name) for variant in document.variants.values()]
        cells = [Text(cell(part), style=STYLES[part.status] if part else "dim") for part in parts]
        shown.add_row(name, *cells)
    shown.add_section()
    columns = [
        figures(variant, [trial for trial in trials if trial.name == name])
        for name, variant in document.variants.items()
    ]
    for row in columns[0] if columns else ():
        shown.add_row(row, *(column[row] for column in columns))
    if measured := own_figures(document):
        shown.add_section()
        for row, values in measured:
            shown.add_row(row, *values)
    return shown


def own_figures(document: VerdictFile) -> list[tuple[str, tuple[str, ...]]]:
    """The lab's own figures, a row each (per scenario if there are several): what each variant showed."""
    variants = list(document.variants.values())
    single = len(document.scenarios) == 1
    keys = dict.fromkeys((one.scenario, one.name) for variant in variants for one in variant.figures)
    rows = []
    for scenario, name in keys:
        found = [
            next((one for one in variant.figures if (one.scenario, one.name) == (scenario, name)), None)
            for variant in variants
        ]
        rows.append((name if single else f"{name}, {scenario}", tuple(shown_figure(one) for one in found)))
    return rows


def shown_figure(figure: FigurePart | None) -> str:
    """`0.97 share (limit 0.95)`, or `-` where there is none."""
    if figure is None or figure.value is None:
        return "-"
    limit = "" if figure.limit is None else f" (limit {figure.limit:g})"
    value = f"{figure.value:.0f}" if abs(figure.value) >= 1000 else f"{figure.value:.3g}"
    return f"{value} {figure.unit}".rstrip() + limit


def naive_line(trials: Sequence[Trial], invariants: Mapping[str, str]) -> str:
    """`broke charged_exactly_once 17` or `did not break ...`; of several scenarios the one with fewest offenders.

    `invariants` by scenario, of those in which the variant must break one; there is at least one.
    """
    told = []
    for trial in trials:
        if trial.scenario not in invariants:
            continue
        invariant = invariants[trial.scenario]
        finding = trial.findings.get(invariant)
        broken = finding.count if finding is not None and finding.status is Status.BROKEN else 0
        told.append((broken, invariant))
    broken, invariant = min(told)
    return f"broke {invariant} {broken}" if broken else f"did not break {invariant}"
