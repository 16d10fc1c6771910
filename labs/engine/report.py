"""report.html: one file that works offline, made from the run's own results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from labs.engine import chart, files, story, summary
from labs.engine.model import FaultRecord, Lab, Status, StoryLine, VariantRole, Verdict
from labs.engine.planning import Plan
from labs.engine.trial import Trial
from labs.engine.verdict import NOT_DISCRIMINATING

TEMPLATE = "report.html.j2"
CODE = re.compile(r"`([^`\n]+)`")
LINKS = ("experiment.json", "history.jsonl", "faults.jsonl", "probes.jsonl", "reconcile.json", "verdict.json")
SAYS = {
    Verdict.PASS: "The claim held.",
    Verdict.FAIL: "The claim did not hold.",
    Verdict.UNKNOWN: "The run shows nothing.",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: `tone` is a CSS class."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class InvariantRow:
    """`meaning` is the first line of the invariant's docstring."""

    name: str
    meaning: str
    decisive: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class StoryStep:
    """A line of the story: `wait` is the time since the line before."""

    at: str
    wait: str
    who: str
    tone: str
    what: str


@dataclass(frozen=True, slots=True)
class FaultRow:
    """A receipt."""

    at: str
    kind: str
    target: str
    parameters: str
    receipt: str
    tone: str


@dataclass(frozen=True, slots=True)
class TrialPart:
    """One variant in one scenario, as shown."""

    title: str
    role: str
    svg: Markup
    faults: tuple[FaultRow, ...]
    reconciled: tuple[tuple[str, int, str], ...]
    offenders: tuple[tuple[str, str], ...]
    story_of: str
    story: tuple[StoryStep, ...]
    problems: tuple[str, ...]
    prepared: str


def write_report(
    folder: Path,
    *,
    lab: Lab,
    trials: Sequence[Trial],
    document: files.VerdictFile,
    predicted: str | None,
    plans: Sequence[Plan],
) -> Path:
    """Render into the run's folder. Raises OSError."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["prose"] = prose
    experiment = files.read(folder / "experiment.json", files.Experiment)
    html = environment.get_template(TEMPLATE).render(
        lab=lab,
        verdict=document,
        says=says(document),
        prediction=predicted,
        observation=observation(document, trials),
        variants=[(name, variant.role.value) for name, variant in document.variants.items()],
        rows=_rows(document, plans),
        figures=[*_figures(document, trials), *summary.own_figures(document)],
        sources=_sources(document),
        trials=[_part(trial, document) for trial in trials],
        metrics=document.metrics,
        experiment=experiment,
        links=[name for name in LINKS if (folder / name).exists()],
    )
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def says(document: files.VerdictFile) -> str:
    """The verdict in a sentence, no wider than what was tried."""
    roles = {variant.role for variant in document.variants.values()}
    if document.verdict is Verdict.PASS and VariantRole.ENGINEERED not in roles:
        return "The naive variant broke what it was to break. The claim itself was not tried: the other variants did not run."
    if document.verdict is Verdict.PASS and VariantRole.NAIVE not in roles:
        return "It held. No naive variant ran beside it to show that this could have gone wrong."
    if document.verdict is Verdict.FAIL and all(NOT_DISCRIMINATING in reason for reason in document.reasons):
        return "Nothing was shown: the experiment does not discriminate."
    return SAYS[document.verdict]


def prose(text: str) -> Markup:
    """Escaped text in which `words` in backticks are set as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before


def observation(document: files.VerdictFile, trials: Sequence[Trial]) -> list[str]:
    """What happened, a sentence or two for each variant."""
    said = []
    for name, variant in document.variants.items():
        of_variant = [trial for trial in trials if trial.name == name]
        if not variant.invariants:
            said.append(f"{name}: not judged.")
            continue
        broken = [(key, part) for key, part in variant.invariants.items() if part.status is Status.BROKEN]
        operations = summary.figures(variant, of_variant)
        text = f"{name}: {operations['operations']} operations, {operations['acknowledged']} acknowledged. "
        if broken:
            text += "It broke " + ", ".join(f"{key} {part.count} times" for key, part in broken) + "."
        else:
            held = sum(part.status is Status.HELD for part in variant.invariants.values())
            text += f"It held {held} of {len(variant.invariants)} invariants."
        if variant.recovery_seconds is not None:
            text += f" It had recovered {variant.recovery_seconds:.1f} s after the last heal."
        said.append(text)
    return said


def _rows(document: files.VerdictFile, plans: Sequence[Plan]) -> list[InvariantRow]:
    meanings = {
        one.__name__: (one.__doc__ or "").strip().partition("\n")[0]
        for plan in plans
        for one in plan.scenario.invariants or ()
    }
    decisive = {plan.discriminates.invariant.__name__ for plan in plans}
    names = dict.fromkeys(name for variant in document.variants.values() for name in variant.invariants)
    return [
        InvariantRow(
            name,
            meanings.get(name, ""),
            name in decisive,
            tuple(_cell(variant.invariants.get(name)) for variant in document.variants.values()),
        )
        for name in names
    ]


def _cell(part: files.InvariantPart | None) -> Cell:
    return Cell(summary.cell(part), "" if part is None else part.status.value)


def _figures(document: files.VerdictFile, trials: Sequence[Trial]) -> list[tuple[str, tuple[str, ...]]]:
    columns = [
        summary.figures(variant, [trial for trial in trials if trial.name == name])
        for name, variant in document.variants.items()
    ]
    return [(row, tuple(column[row] for column in columns)) for row in columns[0]] if columns else []


def _sources(document: files.VerdictFile) -> list[tuple[str, str]]:
    """Where the lab's own figures come from."""
    found = {one.name: one.source for variant in document.variants.values() for one in variant.figures}
    return list(found.items())


def _part(trial: Trial, document: files.VerdictFile) -> TrialPart:
    title = trial.name if len(document.scenarios) == 1 else f"{trial.name}, {trial.scenario}"
    lines = story.of_trial(trial) if trial.variant.role is VariantRole.NAIVE or trial.story_of else []
    broken = [(name, f) for name, f in trial.findings.items() if f.status is Status.BROKEN]
    return TrialPart(
        title=title,
        role=trial.variant.role.value,
        svg=Markup(chart.timeline(trial)),  # noqa: S704  drawn here; its texts are escaped by the SVG writer
        faults=tuple(fault_row(record) for record in trial.faults),
        reconciled=_reconciled(trial),
        offenders=tuple((name, _named(f.offenders, f.count)) for name, f in broken),
        story_of=trial.story_of,
        story=tuple(_steps(lines)),
        problems=(
            *trial.problems,
            *(f"did not settle: {what}" for what in trial.unsettled),
            *(f"lost a process: {who}" for who in trial.crashed),
        ),
        prepared=next(
            (f"{one.note} ({one.probe.value:g} s)" for one in trial.probes if one.probe.name == "prepare"), ""
        ),
    )


def _named(offenders: Sequence[str], count: int) -> str:
    shown = ", ".join(offenders[:10])
    return shown + (f" and {count - 10} more" if count > 10 else "")


def _reconciled(trial: Trial) -> tuple[tuple[str, int, str], ...]:
    r = trial.reconciliation
    if r is None:
        return ()
    counts = (
        ("lost", r.lost),
        ("duplicated", r.duplicated),
        ("recovered", r.recovered),
        ("unexpected", r.unexpected),
        ("contradicted", r.contradicted),
    )
    totals = (("attempted", r.attempted, ""), ("acknowledged", r.acknowledged, ""), ("found", r.found, ""))
    return (*totals, *((name, count.count, _named(count.ids, count.count)) for name, count in counts))


def fault_row(record: FaultRecord) -> FaultRow:
    proven = record.receipt is not None and record.receipt.proven
    told = record.receipt.summary if record.receipt is not None else record.error or "none"
    window = "not reached"
    if record.injected_at is not None:
        end = "" if record.healed_at is None else f" to {record.healed_at:.1f}"
        window = f"{record.injected_at:.1f}{end} s"
    parameters = ", ".join(f"{key} {value}" for key, value in record.parameters.items())
    return FaultRow(window, record.kind, record.target, parameters, told, "held" if proven else "broken")


def _steps(lines: Sequence[StoryLine]) -> list[StoryStep]:
    who = story.columns(lines)
    steps, before = [], lines[0].at if lines else 0.0
    for line in lines:
        wait = line.at - before
        steps.append(
            StoryStep(
                at=f"{line.at:.3f}",
                wait=f"+{wait * 1000:.0f} ms" if wait < 1 else f"+{wait:.1f} s",
                who=line.who,
                tone=f"who{who.index(line.who) % 5}" if line.who != "fault" else "whofault",
                what=line.what,
            )
        )
        before = line.at
    return steps
