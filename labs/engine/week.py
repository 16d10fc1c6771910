"""Several days of one command: the table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labs.engine.model import Lab, Verdict
from labs.engine.timing import FULL_BUDGET_SECONDS, SHORT_BUDGET_SECONDS

TONES = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.UNKNOWN: "yellow"}
NOT_RUN, INTERRUPTED, SKIPPED = "not run", "interrupted", "skipped"


@dataclass(frozen=True, slots=True)
class Day:
    """How a day ended. `report` is None, and `reason` says why, if it could not be run; no verdict: it was skipped."""

    lab: Lab
    verdict: Verdict | None
    seconds: float
    report: Path | None
    reason: str = ""


def name_of(labs: Sequence[Lab]) -> str:
    """`week02`, or `all` where they are of several weeks."""
    weeks = {lab.week for lab in labs}
    return f"week{weeks.pop():02d}" if len(weeks) == 1 else "all"


def show_days(
    console: Console, days: Sequence[Day], labs: Sequence[Lab], *, seconds: float, short: bool = False
) -> None:
    """One line a day in order, the one that was interrupted and those not reached too; then the counts and the time of all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("day", "", "verdict", "seconds", "report"):
        table.add_column(title, overflow="fold", justify="right" if title == "seconds" else "left")
    for number, lab in enumerate(labs):
        if number and lab.week != labs[number - 1].week:
            table.add_section()
        if number < len(days):
            day = days[number]
            verdict = Text(SKIPPED, style="dim") if day.verdict is None else Text(day.verdict, style=TONES[day.verdict])
            table.add_row(lab.name, lab.title, verdict, f"{day.seconds:.0f}", str(day.report or day.reason))
        else:
            table.add_row(lab.name, lab.title, Text(INTERRUPTED if number == len(days) else NOT_RUN, style="dim"))
    console.print()
    console.print(table)
    promised = len(labs) * (SHORT_BUDGET_SECONDS if short else FULL_BUDGET_SECONDS)
    ended: dict[Verdict | None, str] = {**{verdict: verdict.value for verdict in Verdict}, None: SKIPPED}
    counts = ", ".join(
        f"{count} {said}" for verdict, said in ended.items() if (count := sum(day.verdict is verdict for day in days))
    )
    said = f"{counts or 'nothing judged'} of {len(labs)} days; {seconds:.0f} s in all, of {promised:.0f} s"
    console.print(said, markup=False, highlight=False, soft_wrap=True)
