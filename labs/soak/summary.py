"""What stands on the screen at the end of a soak."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labs.engine.model import Finding, Status
from labs.engine.model import Outcome as Told
from labs.engine.summary import STYLES
from labs.engine.world import World
from labs.soak.growth import MIB
from labs.soak.house import Outcome
from labs.soak.judging import Judged

LONGEST_NOTE = 90


def show(console: Console, world: World, outcome: Outcome, judged: Judged, not_done: Sequence[str]) -> None:
    """Findings by system, operations by source, memory by process, reasons, the path of the report."""
    console.print()
    console.print(findings(judged))
    console.print(operations(outcome))
    console.print(memory(judged))
    lines = [
        *judged.judgement.reasons,
        *(f"not judged: {one}" for one in judged.left_out),
        *(f"not done: {one}" for one in not_done),
    ]
    for line in lines:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    where = f"{world.clock.now():.0f} s  {len(outcome.faults)} faults  report: {world.folder / 'report.html'}"
    console.print(where, markup=False, highlight=False, soft_wrap=True)


def findings(judged: Judged) -> Table:
    """A row for each invariant."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "must hold", ""):
        shown.add_column(column, no_wrap=True)
    shown.add_column("")
    for trial in judged.trials:
        for number, (name, finding) in enumerate(trial.findings.items()):
            state = Text(status(finding), style=STYLES[finding.status])
            shown.add_row(trial.name if number == 0 else "", name, state, Text(finding.note[:LONGEST_NOTE]))
        shown.add_section()
    return shown


def status(finding: Finding) -> str:
    """`held`, `broken 3`, `unknown`."""
    if finding.status is Status.BROKEN:
        return f"broken {finding.count}"
    return finding.status.value.replace("_", " ")


def operations(outcome: Outcome) -> Table:
    """What the clients know."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("load", "operations", "acknowledged", "told failed", "unknown"):
        shown.add_column(column, justify="left" if column == "load" else "right")
    for name, history in outcome.history.items():
        counts = [sum(one.outcome is told for one in history) for told in (Told.OK, Told.FAIL, Told.UNKNOWN)]
        shown.add_row(name, *(str(number) for number in (len(history), *counts)))
    return shown


def memory(judged: Judged) -> Table:
    """Of each process: MiB at first, at last and at most, the slope, open files, lives."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("process", "MiB", "last", "most", "MiB/h", "files", "last", "lives"):
        shown.add_column(column, justify="left" if column == "process" else "right")
    for one in judged.processes:
        sizes = (f"{size / MIB:.0f}" for size in (one.first, one.last, one.peak))
        slope = "-" if one.trend is None else f"{one.trend.per_hour / MIB:+.1f}"
        files = ("-" if number is None else str(number) for number in (one.descriptors_first, one.descriptors_last))
        shown.add_row(one.service, *sizes, slope, *files, str(one.lives))
    return shown
