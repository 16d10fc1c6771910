"""report.html of a soak: one file that works offline, in the dress of the labs' reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from labs.engine import files
from labs.engine import report as lab_report
from labs.engine.model import Outcome as Told
from labs.engine.report import FaultRow, fault_row, prose
from labs.soak import chart, growth
from labs.soak.bounds import TABLES
from labs.soak.growth import MIB
from labs.soak.house import Outcome
from labs.soak.judging import HOUSE_NAME
from labs.soak.results import TITLE, GrowthFile, ProcessPart
from labs.soak.sizes import Sizes
from labs.soak.systems import NOT_ASKED, SYSTEMS

TEMPLATE = "soak.html.j2"
LINKS = (*lab_report.LINKS, "samples.jsonl", "growth.json")
MOMENTS = ("start", "end", "settled", "rest")
SHOWN_OFFENDERS = 10


@dataclass(frozen=True, slots=True)
class Row:
    """An invariant. `meaning` is the first line of its docstring, `tone` a CSS class."""

    system: str
    name: str
    meaning: str
    state: str
    tone: str
    note: str
    offenders: str


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process."""

    service: str
    judged: bool
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SizeRow:
    """A table, topic or log at four moments."""

    name: str
    cells: tuple[str, ...]
    bound: str


@dataclass(frozen=True, slots=True)
class SizePart:
    """A kind of store."""

    title: str
    rows: tuple[SizeRow, ...]


def write_report(folder: Path, *, outcome: Outcome, document: files.VerdictFile) -> Path:
    """Render into the run's folder, whose other files are there. Raises OSError."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(lab_report.__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["prose"] = prose
    measured = files.read(folder / "growth.json", GrowthFile)
    faults = [fault_row(record) for record in outcome.faults]
    svg = chart.overview(outcome.history, outcome.faults, outcome.samples, outcome.load)
    html = environment.get_template(TEMPLATE).render(
        title=TITLE,
        verdict=document,
        experiment=files.read(folder / "experiment.json", files.Experiment),
        loads=_loads(outcome),
        faults=faults,
        proven=sum(row.tone == "held" for row in faults),
        kinds=_kinds(faults),
        afterwards=_afterwards(outcome),
        rows=_rows(document),
        left_out=measured.left_out,
        not_done=measured.not_done,
        svg=Markup(svg),  # noqa: S704  drawn here; its texts are escaped by the SVG writer
        processes=[_process(one) for one in measured.processes],
        sizes=_sizes(measured.sizes),
        not_asked=list(NOT_ASKED.items()),
        links=[name for name in LINKS if (folder / name).exists()],
    )
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def _loads(outcome: Outcome) -> list[str]:
    said = []
    for name, history in outcome.history.items():
        counts = Counter(one.outcome for one in history)
        said.append(
            f"{name}: {len(history)} operations, {counts[Told.OK]} acknowledged, {counts[Told.FAIL]} told failed, "
            f"{counts[Told.UNKNOWN]} unknown"
        )
    return said


def _kinds(faults: Sequence[FaultRow]) -> list[str]:
    counts = Counter(row.kind for row in faults)
    return [", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))] if counts else []


def _afterwards(outcome: Outcome) -> list[str]:
    said = [outcome.prepared] if outcome.prepared else []
    if outcome.recovery_seconds is not None:
        said.append(f"All was settled {outcome.recovery_seconds:.1f} s after the end of the load.")
    said += [f"{system}: {what}" for system, open_things in outcome.unsettled.items() for what in open_things]
    if outcome.disturbed:
        said.append(outcome.disturbed)
    return said


def _rows(document: files.VerdictFile) -> list[Row]:
    meanings = {one.__name__: one.__doc__ for system in SYSTEMS for one in system.invariants}
    rows = []
    for system, verdict in document.variants.items():
        for name, part in verdict.invariants.items():
            meaning = getattr(growth, name, None).__doc__ if system == HOUSE_NAME else meanings.get(name)
            state = part.status.value.replace("_", " ")
            rows.append(
                Row(
                    system=system,
                    name=name,
                    meaning=(meaning or "").strip().partition("\n")[0],
                    state=f"{state} {part.count}" if part.count else state,
                    tone=part.status.value,
                    note=part.note,
                    offenders=", ".join(part.offenders[:SHOWN_OFFENDERS]),
                )
            )
    return rows


def _process(one: ProcessPart) -> ProcessRow:
    def number(value: int | None) -> str:
        return "-" if value is None else str(value)

    slope = "-" if one.slope_mib_per_hour is None else f"{one.slope_mib_per_hour:+.1f}"
    memory = (one.memory_first, one.memory_last, one.memory_peak)
    cells = (
        *(f"{size / MIB:.0f}" for size in memory),
        slope,
        f"{one.fitted_seconds:.0f}",
        number(one.descriptors_first),
        number(one.descriptors_last),
        str(one.lives),
    )
    return ProcessRow(one.service, one.judged, cells)


def _sizes(sizes: Mapping[str, Sizes]) -> list[SizePart]:
    """Only what is not empty."""
    moments = [sizes.get(moment) for moment in MOMENTS]

    def row(name: str, values: Iterable[int | None], bound: str, unit: int = 1) -> SizeRow:
        return SizeRow(name, tuple("-" if one is None else _size(one, unit) for one in values), bound)

    tables = _names(one.tables for one in moments if one)
    topics = _names(one.topics for one in moments if one)
    logs = _names((one.logs or {}) for one in moments if one)
    slots = _names(one.slots for one in moments if one)
    rest = sizes.get("rest")
    return [
        SizePart(
            "Tables, in rows",
            tuple(
                row(name, ((one.tables[name].rows if one and name in one.tables else None) for one in moments),
                    TABLES[name].because if name in TABLES else "")
                for name in tables
                if any(one and name in one.tables and one.tables[name].rows for one in moments)
            ),
        ),
        SizePart(
            "Topics, in records written",
            tuple(
                row(name, ((one.topics[name].written if one and name in one.topics else None) for one in moments),
                    rest.topics[name].bound if rest and name in rest.topics else "")
                for name in topics
            ),
        ),
        SizePart(
            "Logs, in KiB",
            (
                *(row(f"write-ahead log kept for {name}", (one.slots.get(name) if one else None for one in moments),
                      "as much as the connector is behind", 1024) for name in slots),
                *(row(name, ((one.logs or {}).get(name) if one else None for one in moments),
                      "cut at 64 MiB", 1024) for name in logs),
            ),
        ),
    ]  # fmt: skip


def _size(value: int, unit: int) -> str:
    return f"{value / unit:,.0f}"


def _names(moments: Iterable[Mapping[str, object]]) -> list[str]:
    return sorted({name for one in moments for name in one})
