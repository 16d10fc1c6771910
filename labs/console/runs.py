"""Weeks and days: the question, the last verdict, what was predicted and what happened, and the files of each run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from labs.engine import discover, files, folder
from labs.engine.model import Lab, Status, VariantRole, Verdict
from services.kit.errors import Problem

KEPT_HISTORY = 8
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
SERVED = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "text/plain; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".csv": "text/plain; charset=utf-8",
}
DEEPEST = 4
SAYS = {
    Verdict.PASS: "The claim held.",
    Verdict.FAIL: "The claim did not hold.",
    Verdict.UNKNOWN: "The run shows nothing.",
}


class NoSuchFile(Problem):
    def __init__(self) -> None:
        super().__init__(
            404, "no_such_file", "There is no such file among the runs", detail="Only the newest runs are kept."
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a variant fared: the invariants that it broke, with their counts."""

    name: str
    role: str
    broken: tuple[tuple[str, int], ...]
    held: int
    judged: int
    p99_ms: float | None
    recovery_seconds: float | None
    says: str


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run; `verdict` as `make labs` tells it."""

    lab: str
    run: str
    verdict: str
    told: str
    says: str
    started_at: str
    seed: int
    short: bool
    runtime: str
    prediction: str | None
    reasons: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    report: str | None


@dataclass(frozen=True, slots=True)
class Earlier:
    """A line of a lab's history."""

    run: str
    verdict: str
    started_at: str
    seed: int
    short: bool
    report: str | None


@dataclass(frozen=True, slots=True)
class Day:
    """A lab as it is listed. `problem` instead of the rest where its module cannot be read."""

    name: str
    week: int
    day: int
    title: str
    question: str
    hypothesis: str
    variants: tuple[tuple[str, str, bool], ...]
    command: str
    page: str
    last: Result | None
    history: tuple[Earlier, ...]
    problem: str = ""


class Runs:
    """Labs and runs of a checkout."""

    def __init__(self, root: Path, modules: Sequence[str] | None) -> None:
        self._root = root
        self._modules = modules
        self._results: dict[Path, tuple[int, Result | None]] = {}

    def days(self) -> list[Day]:
        """All labs by week and day. Blocks: reads a few small files each."""
        return [self._day(module) for module in self._names()]

    def file(self, lab: str, run: str, path: str) -> tuple[Path, str]:
        """A file of a run and its media type; `latest` is a run too. Raises NoSuchFile."""
        parts = [lab, run, *path.split("/")]
        if len(parts) > 2 + DEEPEST or not all(_PART.fullmatch(part) for part in parts):
            raise NoSuchFile
        runs = folder.runs(self._root).resolve()
        found = runs.joinpath(*parts).resolve()
        if not found.is_relative_to(runs) or not found.is_file() or found.suffix not in SERVED:
            raise NoSuchFile
        return found, SERVED[found.suffix]

    def _names(self) -> list[str]:
        return list(self._modules) if self._modules is not None else discover.modules(self._root)

    def _day(self, module: str) -> Day:
        try:
            lab = discover.load(module)
        except (
            discover.NoSuchLabError,
            ImportError,
            SyntaxError,
            AttributeError,
            TypeError,
            ValueError,
            NameError,
        ) as error:
            return _unreadable(module, error)
        home = folder.runs(self._root) / lab.name
        runs = sorted(_runs_in(home), key=lambda path: path.name, reverse=True)
        results = [one for path in runs[: KEPT_HISTORY + 4] if (one := self._result(lab, path)) is not None]
        return Day(
            name=lab.name,
            week=lab.week,
            day=lab.day,
            title=lab.title,
            question=lab.question,
            hypothesis=lab.hypothesis,
            variants=tuple((name, variant.role.value, variant.on_request) for name, variant in lab.variants.items()),
            command=f"make lab week={lab.week} day={lab.day}",
            page=page_of(self._root, lab),
            last=results[0] if results else None,
            history=tuple(
                Earlier(one.run, one.verdict, one.started_at, one.seed, one.short, one.report)
                for one in results[:KEPT_HISTORY]
            ),
        )

    def _result(self, lab: Lab, path: Path) -> Result | None:
        try:
            changed = (path / "verdict.json").stat().st_mtime_ns
        except OSError:
            return None
        if path not in self._results or self._results[path][0] != changed:
            self._results[path] = (changed, read_result(lab, path))
        return self._results[path][1]


def read_result(lab: Lab, path: Path) -> Result | None:
    """Of a run's folder; None if its files cannot be read (an older schema, or half written)."""
    try:
        verdict = files.read(path / "verdict.json", files.VerdictFile)
        experiment = files.read(path / "experiment.json", files.Experiment)
    except (OSError, msgspec.DecodeError):
        return None
    has_report = (path / "report.html").is_file()
    return Result(
        lab=lab.name,
        run=path.name,
        verdict=verdict.verdict.value,
        told=folder.told(lab, verdict),
        says=_says(verdict),
        started_at=experiment.started_at,
        seed=experiment.seed,
        short=experiment.short,
        runtime=experiment.runtime,
        prediction=experiment.prediction,
        reasons=tuple(verdict.reasons[:6]),
        outcomes=tuple(_outcome(name, variant) for name, variant in verdict.variants.items()),
        report=f"/reports/{lab.name}/{path.name}/report.html" if has_report else None,
    )


def page_of(root: Path, lab: Lab) -> str:
    """Address of the day's part in the week's page."""
    page = root / "labs" / f"week{lab.week:02d}" / "README.md"
    if not page.is_file():
        return ""
    from labs.console.course import anchor_of_day

    anchor = anchor_of_day(page, lab.day)
    return f"/course/labs/week{lab.week:02d}/README.md" + (f"#{anchor}" if anchor else "")


def _says(verdict: files.VerdictFile) -> str:
    roles = {variant.role for variant in verdict.variants.values()}
    if verdict.verdict is Verdict.PASS and VariantRole.ENGINEERED not in roles:
        return "It broke what it was to break; the engineered variant did not run beside it."
    if verdict.verdict is Verdict.PASS and VariantRole.NAIVE not in roles:
        return "It held; no naive variant ran beside it."
    return SAYS[verdict.verdict]


def _outcome(name: str, variant: files.VariantVerdict) -> Outcome:
    parts = variant.invariants.items()
    broken = tuple((key, part.count) for key, part in parts if part.status is Status.BROKEN)
    held = sum(part.status is Status.HELD for _, part in parts)
    judged = sum(part.status is not Status.NOT_APPLICABLE for _, part in parts)
    if not variant.invariants:
        says = "not judged"
    elif broken:
        says = "broke " + ", ".join(f"{key} {count}×" for key, count in broken)
    else:
        says = f"held {held} of {judged}"
    latency = variant.latency_ms
    p99 = None if latency is None else latency.p99
    return Outcome(name, variant.role.value, broken, held, judged, p99, variant.recovery_seconds, says)


def _runs_in(home: Path) -> Iterable[Path]:
    try:
        return [path for path in home.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def _unreadable(module: str, error: Exception) -> Day:
    match = discover.PLACE.search(module)
    week, day = (int(match[1]), int(match[2])) if match else (0, 0)
    problem = f"{module} cannot be read: {type(error).__name__}: {error}"[:400]
    return Day(f"week{week:02d}-day{day}", week, day, "", "", "", (), "", "", None, (), problem)
