"""`make lab` alone: what is here, what to try first, and how far you are. Fits a terminal of 40 lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from labs.engine import folder
from labs.engine.files import VerdictFile
from labs.engine.model import Lab, Verdict
from labs.engine.timing import FULL_BUDGET_SECONDS
from labs.engine.week import TONES
from labs.verdicts import record
from labs.verdicts.table import first_question

FIRST = "week02-day2"
"""The quickest to understand: an answer is lost, and a customer pays twice."""
NEVER = "never run"
HEADING = re.compile(r"^# Week \d+: (.+)$", re.MULTILINE)


def page(labs: Sequence[Lab], root: Path) -> Iterable[RenderableType]:
    """The parts in order."""
    took = seconds_of(root)
    last = {lab.name: folder.last_verdict(root, lab.name) for lab in labs}
    passed = {name for name, verdict in last.items() if verdict is not None and verdict.verdict is Verdict.PASS}
    yield Text("Break real systems and see what holds: each day runs a naive and an engineered", style="bold")
    yield Text("design under the same load and faults, and judges both from outside.", style="bold")
    yield ""
    yield next_step(labs, passed, seen=any(last.values()))
    for week, days in groupby(labs, key=lambda lab: lab.week):
        yield ""
        yield from _week(week, list(days), root, took, last)
    yield ""
    yield "Read a day's part of the page, predict, run, read the report, change one thing."
    yield commands(labs)


def _week(
    week: int, days: Sequence[Lab], root: Path, took: Mapping[str, int], last: Mapping[str, VerdictFile | None]
) -> Iterable[RenderableType]:
    whole = sum(seconds(lab, took) for lab in days) / 60
    yield Text.assemble((f"Week {week}: {title_of(week, root)}", "bold"), f"   labs/week{week:02d}/README.md")
    yield Text(f"all {len(days)} days in order, {whole:.0f} min:  make lab week={week}", style="dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    for lab in days:
        verdict = last[lab.name]
        told = Text(NEVER, style="dim") if verdict is None else Text(_told(lab, verdict), TONES[verdict.verdict])
        name = lab.title.partition(":")[0]
        table.add_row(f" day {lab.day}", f"{name}. {first_question(lab.question)}", f"{seconds(lab, took)} s", told)
    yield table


def _told(lab: Lab, verdict: VerdictFile) -> str:
    """`pass`, or `pass (part)` where not all variants ran."""
    whole = folder.told(lab, verdict) == verdict.verdict.value
    return verdict.verdict.value if whole else f"{verdict.verdict.value} (part)"


def next_step(labs: Sequence[Lab], passed: set[str], *, seen: bool) -> Text:
    """The command to type now: the first experiment, then the first day in order that has not passed here."""
    todo = [lab for lab in labs if lab.name not in passed]
    first = next((lab for lab in todo if lab.name == FIRST), None)
    if not seen and first is not None:
        said = (
            "Start here",
            first,
            "it sets all up by itself",
        )
    elif todo:
        said = ("Next", todo[0], todo[0].title)
    else:
        return Text("Every day has passed here. Now change something: each day's part ends with what.")
    lead, lab, why = said
    return Text.assemble((f"{lead}:  ", "bold"), (f"make lab week={lab.week} day={lab.day}", "bold green"), f"   {why}")


def commands(labs: Sequence[Lab]) -> RenderableType:
    """What one types afterwards."""
    rows = {
        "make report": "the newest run: timeline, receipts, a story",
        "make console": "all of it in the browser, with live charts",
        "make lab week=all": f"all {len(labs)} days, one table at the end",
        "make lab week=2 day=2 short=1": "a minute; also variant=naive seed=7 keep=1",
        "make labs": "each question in full; make alone: all targets",
    }
    table = Table.grid(padding=(0, 2))
    for command, meaning in rows.items():
        table.add_row(f" {command}", Text(meaning, style="dim"))
    return table


def title_of(week: int, root: Path) -> str:
    """Of the week's page; empty where it has none."""
    path = root / "labs" / f"week{week:02d}" / "README.md"
    found = HEADING.search(path.read_text("utf-8")) if path.exists() else None
    return found[1] if found else ""


def seconds(lab: Lab, took: Mapping[str, int]) -> int:
    """As long as it took when it was measured, or what a day may take."""
    return took.get(lab.name, round(FULL_BUDGET_SECONDS))


def seconds_of(root: Path) -> dict[str, int]:
    """The longest whole run of each day in docs/verdicts.json; none where it cannot be read."""
    try:
        runs = record.load(root / "docs" / "verdicts.json")
    except (OSError, ValueError):
        return {}
    longest: dict[str, int] = {}
    for run in runs:
        longest[run.lab] = max(run.seconds, longest.get(run.lab, 0))
    return longest


def show(console: Console, labs: Sequence[Lab], root: Path) -> None:
    """Print it."""
    for part in page(labs, root):
        console.print(part, highlight=False)
