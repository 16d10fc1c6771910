"""What stands on the screen at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from labs.engine.files import InvariantPart, VariantVerdict, VerdictFile
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
        "recovered after heal": "no" if recovery is None else f"{recovery:.1f} s",
    }


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
    return shown


def naive_line(trials: Sequence[Trial], invariants: Mapping[str, str]) -> str:
    """`broke charged_exactly_once 17` or `did not break ...`; of several scenarios the one with fewest offenders."""
    told = []
    for trial in trials:
        invariant = invariants[trial.scenario]
        finding = trial.findings.get(invariant)
        broken = finding.count if finding is not None and finding.status is Status.BROKEN else 0
        told.append((broken, invariant))
    broken, invariant = min(told)
    return f"broke {invariant} {broken}" if broken else f"did not break {invariant}"
