"""BENCHMARKS.md, and the README's few headline figures: Markdown of what docs/benchmarks.json holds, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from benchmarks.records import MOMENT, Machine, Record
from benchmarks.rows import Figures, Row, Standing
from benchmarks.shown import COLUMNS, cells

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
HEAD = """\
# Benchmarks

Written by `make bench` from [docs/benchmarks.json](docs/benchmarks.json); `make bench write=1` writes it anew, and a test compares. Every rate stands beside a limit that was measured in
the same run, in turn with it (A B A B), on the same servers: the machine's speed varies within a day, so that the *ratio* is what to compare. Behind a median stand the least and the most of
the rounds. Generator, services and servers share the machine. What an aim is and why stands beside each benchmark in `benchmarks/figures/`; *unknown* says that the
run cannot tell, and why.
"""
EMPTY = "Nothing has been measured yet: `make bench`.\n"


def document(records: Sequence[Record]) -> str:
    """The whole page. Raises ValueError for figures that are not of this version."""
    if not records:
        return f"{HEAD}\n{EMPTY}"
    machines = list(dict.fromkeys(one.machine for one in records))
    read = [(one, one.read()) for one in records]
    parts = [HEAD, _overview(read), _machines(machines)]
    newest = max(records, key=lambda one: one.at)
    parts += [_section(record, figures, machines, newest) for record, figures in read]
    return "\n".join(parts)


def headlines(records: Sequence[Record]) -> str:
    """What the README shows of it."""
    lines = [_line(("system", *COLUMNS)), "|---|---|---|---|---|---|---|"]
    for record in records:
        figures = record.read()
        lines += [
            _line((f"[{record.name}](BENCHMARKS.md#{anchor(record)})", *cells(row)))
            for row in figures.rows()
            if row.headline
        ]
    if len(lines) == 2:
        return "Nothing has been measured yet: `make bench`."
    days = sorted({one.at[:10] for one in records})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    machine = max(records, key=lambda one: one.at).machine
    told = f"{machine.cores} cores ({machine.cpu}), {machine.memory_gib} GiB, {machine.system}"
    largest = {record.system: record for record in sorted(records, key=lambda one: one.docs or 0)}
    sums = [f"- {text}" for record in records if largest[record.system] is record for text in record.read().sums()]
    takes = ["", "What the course's load takes:", "", *sums] if sums else []
    return "\n".join(
        [*lines, *takes, "", f"Measured {when} on {told}; everything else is in [BENCHMARKS.md](BENCHMARKS.md)."]
    )


def inserted(page: str, text: str) -> str:
    """The page with the text between its markers. Raises ValueError unless each marker is there once, in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}, once each and in this order")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


def anchor(record: Record) -> str:
    """Of its heading."""
    kept = "".join(letter for letter in record.name.lower() if letter.isalnum() or letter in "- _")
    return kept.replace(" ", "-")


def _overview(read: Sequence[tuple[Record, Figures]]) -> str:
    lines = [_line(("measured", "aims met", "missed", "unknown")), "|---|---|---|---|"]
    for record, figures in read:
        rows = figures.rows()
        counts = Counter(row.standing for row in rows)
        names = [
            "; ".join(row.figure for row in rows if row.standing is one) or ""
            for one in (Standing.MISSED, Standing.UNKNOWN)
        ]
        met = f"{counts[Standing.MET]} of {sum(row.aim is not None for row in rows)}"
        lines.append(_line((f"[{record.name}](#{anchor(record)})", met, *names)))
    return "\n".join([*lines, ""])


def _machines(machines: Sequence[Machine]) -> str:
    titles = ["The machine"] if len(machines) == 1 else [f"Machine {number}" for number in range(1, len(machines) + 1)]
    parts = []
    for title, one in zip(titles, machines, strict=True):
        facts = (
            ("processor", f"{one.cpu}, {one.cores} cores"), ("memory", f"{one.memory_gib} GiB"), ("disk", one.disk),
            ("system", f"{one.system}, Linux {one.kernel}"), ("Python", one.python),
        )  # fmt: skip
        parts.append("\n".join([f"## {title}\n", "| | |", "|---|---|", *(_line(fact) for fact in facts), ""]))
    return "\n".join(parts)


def _section(record: Record, figures: Figures, machines: Sequence[Machine], newest: Record) -> str:
    rows = figures.rows()
    lines = [
        f"## {record.name}\n",
        f"{_first_letter_large(figures.title())}. {_circumstances(record, machines, newest)}\n",
    ]
    lines += [f"**The limit.** {figures.LIMIT}\n", _line(COLUMNS), "|---|---|---|---|---|---|"]
    lines += [_line(cells(row)) for row in rows]
    lines += [f"\n{_missed(row)}" for row in rows if row.standing is Standing.MISSED]
    lines += [f"\n{text}" for text in figures.sums()]
    return "\n".join([*lines, ""])


def _missed(row: Row) -> str:
    assert row.aim is not None
    return f"**Missed: {row.figure}.** {row.aim.limit}"


def _circumstances(record: Record, machines: Sequence[Machine], newest: Record) -> str:
    """The command, when, at which commit, with what."""
    at = datetime.strptime(record.at, MOMENT)  # noqa: DTZ007 (it is UTC, and only shown)
    servers = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    where = "" if len(machines) == 1 else f", machine {machines.index(record.machine) + 1}"
    parts = [
        f"`{record.command}`: {at:%Y-%m-%d %H:%M} UTC, {_commit(record)}, {record.runtime}{where}, {record.took_seconds / 60:.0f} min.",
        f"{servers}." if servers else "",
    ]
    if (before := record.around) is not None:
        parts.append(
            f"Just before, {before.load_average:.1f} processes wanted a core, and a durable write of 8 KiB took {before.sync_ms:.2f} ms."
        )
    if record.stand_ins:
        parts.append(f"Stand-ins for official images: {', '.join(record.stand_ins)}.")
    if _bare(record) != _bare(newest):
        parts.append(f"**Not of the same commit as the newest part of this page**, {newest.name} ({_commit(newest)}).")
    return " ".join(part for part in parts if part)


def _bare(record: Record) -> str:
    return (record.commit or "").removesuffix("-dirty")


def _commit(record: Record) -> str:
    if record.commit is None:
        return "commit not known"
    local = " with local changes" if record.commit.endswith("-dirty") else ""
    return f"commit {record.commit.removesuffix('-dirty')}{local}"


def _first_letter_large(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(cells_of_row: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells_of_row) + " |"
