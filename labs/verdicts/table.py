"""The Markdown table: a line a day, a column for each runtime and seed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from labs.console.course import anchor_of_day
from labs.engine.model import Lab, Verdict
from labs.verdicts.record import Record

BEGIN, END = "<!-- verdicts -->", "<!-- /verdicts -->"
SHOWN_SEEDS = 3
"""Columns of one runtime. The file keeps all seeds."""
NONE = "–"

Column = tuple[str, int]
"""Runtime and seed."""


def markdown(records: Sequence[Record], labs: Sequence[Lab], root: Path) -> str:
    """The table of the labs that there are, and a line that says where it comes from."""
    names = {lab.name for lab in labs}
    columns = columns_of([record for record in records if record.lab in names])
    shown = {(one.lab, (one.runtime, one.seed)): one for one in records if (one.runtime, one.seed) in columns}
    heads = ["week", "day", "question", "naive broke", "engineered held"]
    rows = [_row([*heads, *(f"{runtime}, seed {seed}" for runtime, seed in columns)])]
    rows.append("|" + "---|" * (len(heads) + len(columns)))
    for lab in labs:
        runs = [shown[lab.name, column] for column in columns if (lab.name, column) in shown]
        cells = [verdict_cell(shown.get((lab.name, column))) for column in columns]
        title = f"[{lab.title}]({page_of(lab, root)}): {first_question(lab.question)}"
        rows.append(_row([str(lab.week), str(lab.day), title, broken_cell(runs), held_cell(runs), *cells]))
    if columns:
        rows.append(_row(["", "", "all of these days", "", "", *_sums(labs, columns, shown)]))
    return "\n".join([*rows, "", source_line([one for one in records if one.lab in names])])


def columns_of(records: Iterable[Record]) -> list[Column]:
    """Of each runtime the seeds that most days were run with, native first. Of two with as many days, the lower.

    A seed with less than half as many days as another one is left out.
    """
    days = Counter((record.runtime, record.seed) for record in records)
    columns = []
    for runtime in ("native", "docker"):
        most = sorted((one for one in days if one[0] == runtime), key=lambda one: (-days[one], one[1]))
        columns += sorted(one for one in most[:SHOWN_SEEDS] if 2 * days[one] >= days[most[0]])
    return columns


def first_question(text: str) -> str:
    """The first sentence that asks; the whole text where none does."""
    sentences = re.split(r"(?<=[.?!])\s+", text)
    return next((one for one in sentences if one.endswith("?")), text)


def page_of(lab: Lab, root: Path) -> str:
    """The day's heading on its week's page, or the page where it has none."""
    page = f"labs/week{lab.week:02d}/README.md"
    path = root / page
    anchor = anchor_of_day(path, lab.day) if path.is_file() else ""
    return f"{page}#{anchor}" if anchor else page


def verdict_cell(record: Record | None) -> str:
    """`pass 152 s`; another verdict is set in bold."""
    if record is None:
        return NONE
    verdict = record.verdict.value
    return f"{verdict if record.verdict is Verdict.PASS else f'**{verdict}**'} {record.seconds} s"


def broken_cell(runs: Sequence[Record]) -> str:
    """`charged_exactly_once` 156–186: fewest and most violations over the runs and scenarios that broke it."""
    counts: dict[str, list[int]] = {}
    for run in runs:
        for one in run.naive:
            counts.setdefault(one.invariant, []).append(one.violations)
    told = [f"`{invariant}` {_range(found)}" for invariant, found in counts.items()]
    return ", ".join(told) or ("nothing" if runs else NONE)


def _range(found: Sequence[int]) -> str:
    least, most = min(found), max(found)
    return f"{least:,}" if least == most else f"{least:,}–{most:,}"


def held_cell(runs: Sequence[Record]) -> str:
    """`7 of 7`, of the run with the most left open, and of those the newest."""
    if not runs:
        return NONE
    newest_first = sorted(runs, key=lambda run: run.started_at, reverse=True)
    worst = min(newest_first, key=lambda run: run.engineered.held - run.engineered.judged)
    return f"{worst.engineered.held} of {worst.engineered.judged}"


def _sums(labs: Sequence[Lab], columns: Sequence[Column], shown: Mapping[tuple[str, Column], Record]) -> list[str]:
    cells = []
    for column in columns:
        runs = [shown[lab.name, column] for lab in labs if (lab.name, column) in shown]
        passed = sum(run.verdict is Verdict.PASS for run in runs)
        cells.append(f"{passed} of {len(runs)} pass, {sum(run.seconds for run in runs) / 60:.0f} min")
    return cells


def source_line(records: Sequence[Record]) -> str:
    """When the runs were made, and how to make this again."""
    if not records:
        return "No whole run yet: `make lab week=all`, then `make verdicts`."
    days = sorted({record.started_at[:10] for record in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    built = sum(bool(record.stand_ins) for record in records)
    docker = f" On stand-ins for official images, named there: {built} of the runs under Docker." if built else ""
    return (
        f"Whole runs of {when}, written by `make verdicts` from [docs/verdicts.json](docs/verdicts.json), which has the commit of each where it was recorded. "
        "*Broke* is what the day promises that the naive design breaks, with the fewest and most violations; *held* counts all invariants of the engineered one."
        f"{docker}"
    )


def inserted(page: str, table: str) -> str:
    """The page with the table between its markers. Raises ValueError unless each marker is there once, in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}, once each and in this order")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
