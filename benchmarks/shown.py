"""A run's table on the terminal."""

from __future__ import annotations

from rich.table import Table

from benchmarks.rows import Figures, Row, Standing, Unit

COLUMNS = ("figure", "value", "limit in the same run", "ratio", "aim", "")
STYLES = {Standing.MET: "green", Standing.MISSED: "red", Standing.UNKNOWN: "yellow"}


def cells(row: Row) -> tuple[str, ...]:
    """One for each column."""
    ratio = "" if row.ratio is None else Unit.RATIO.of(row.ratio)
    return (row.figure, row.shown, row.limit, ratio, row.aim.text if row.aim else "", verdict(row))


def verdict(row: Row) -> str:
    """As `met`, or `unknown: only 300 changes/s were made`."""
    if row.standing is None:
        return ""
    reason = row.cannot_tell or ("not measured" if row.standing is Standing.UNKNOWN else "")
    return f"{row.standing.value}: {reason}" if reason else row.standing.value


def table(name: str, figures: Figures) -> Table:
    """What a person reads."""
    shown = Table(
        title=f"{name}: {figures.title()}",
        title_justify="left",
        caption="\n".join(figures.sums()),
        caption_justify="left",
    )
    for column in COLUMNS:
        shown.add_column(column, justify="right" if column in ("ratio", "aim") else "left")
    for row in figures.rows():
        *rest, last = cells(row)
        shown.add_row(*rest, f"[{STYLES[row.standing]}]{last}[/]" if row.standing else "")
    return shown
