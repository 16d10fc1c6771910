"""A whole run as one measured fact, and the file that keeps the newest of each lab, runtime and seed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from labs.engine.files import Line, VerdictFile, read
from labs.engine.model import Status, VariantRole, Verdict

NAME = re.compile(r"week(\d\d)-day(\d)")
COMMIT = re.compile(r"[0-9a-f]{7,40}(-dirty)?")
MOMENT = "%Y-%m-%dT%H:%M:%SZ"


class Broken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a naive variant broke of what it was to break: the invariant that discriminates, and its offenders."""

    scenario: str
    variant: str
    invariant: str
    violations: int


class Held(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many invariants the engineered variant held, of those judged; each the worst over the scenarios."""

    held: int
    judged: int


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One whole run: all variants, nothing shortened, no option that makes it another experiment.

    `started_at` in UTC to the second, `seconds` from there to the verdict; `commit` is None where it was not recorded.
    `stand_ins` are images that were other builds than the official ones of their name.
    """

    lab: str
    runtime: str
    seed: int
    started_at: str
    commit: str | None
    seconds: int
    verdict: Verdict
    naive: list[Broken]
    engineered: Held
    stand_ins: list[str]

    @property
    def key(self) -> tuple[str, str, int]:
        """Of which only the newest is kept; also the order of the file."""
        return (self.lab, self.runtime, self.seed)


class Records(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """docs/verdicts.json."""

    schema: Literal[1] = 1
    runs: list[Record] = []


class Planned(msgspec.Struct, frozen=True):
    """Of a scenario in experiment.json."""

    discriminates: str


class Experiment(Line, frozen=True, kw_only=True):
    """What is needed of experiment.json, so that runs from before it had all its fields can be read too."""

    lab: str
    runtime: str
    seed: int
    short: bool
    started_at: str
    variants: dict[str, msgspec.Raw]
    scenarios: dict[str, Planned]
    options: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)
    commit: str | None = None
    stand_ins: list[str] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a folder of runs: `damaged` says why a file could not be read."""

    records: list[Record] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def load(path: Path) -> list[Record]:
    """Empty where there is no file yet. Raises ValueError, naming what is wrong."""
    try:
        document = msgspec.json.decode(path.read_bytes(), type=Records)
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if wrong := problems(document.runs):
        raise ValueError(f"{path.name} is damaged: {'; '.join(wrong)}")
    return document.runs


def text_of(records: Sequence[Record]) -> str:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(Records(runs=list(records))), indent=2).decode() + "\n"


def merged(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """The newest of each lab, runtime and seed, in the order of their keys."""
    newest: dict[tuple[str, str, int], Record] = {}
    for record in sorted([*old, *new], key=lambda one: one.started_at):
        newest[record.key] = record
    return [newest[key] for key in sorted(newest)]


def collect(runs: Path) -> Found:
    """All whole runs in a folder like .lab/runs. Raises ValueError where there is no such folder."""
    if not runs.is_dir():
        raise ValueError(f"{runs} is no folder of runs; run a lab first: make lab week=all")
    found = Found()
    for folder in sorted(path.parent for path in runs.glob("*/*/verdict.json") if not path.parent.is_symlink()):
        try:
            record = of_run(folder)
        except (OSError, ValueError) as error:
            found.damaged.append(f"{folder.relative_to(runs)}: {error}")
            continue
        if record is not None and (wrong := problems([record])):
            found.damaged.append("; ".join(wrong))
        elif record is not None:
            found.records.append(record)
    return found


def of_run(folder: Path) -> Record | None:
    """None for a run that is not whole. Raises OSError, ValueError (msgspec.DecodeError is one)."""
    experiment = read(folder / "experiment.json", Experiment)
    if experiment.short or experiment.options or len(experiment.variants) < 2:
        return None
    verdict = read(folder / "verdict.json", VerdictFile)
    started = datetime.fromisoformat(experiment.started_at)
    seconds = verdict.seconds
    if seconds is None:  # a run of before it was written down: its files tell
        seconds = (folder / "verdict.json").stat().st_mtime - started.timestamp()
    return Record(
        lab=experiment.lab,
        runtime=experiment.runtime,
        seed=experiment.seed,
        started_at=started.astimezone(UTC).strftime(MOMENT),
        commit=experiment.commit,
        seconds=round(seconds),
        verdict=verdict.verdict,
        naive=list(_broken(experiment, verdict)),
        engineered=_held(verdict),
        stand_ins=experiment.stand_ins,
    )


def _broken(experiment: Experiment, document: VerdictFile) -> Iterator[Broken]:
    for scenario, judged in document.scenarios.items():
        invariant = experiment.scenarios[scenario].discriminates
        for name, variant in judged.variants.items():
            part = variant.invariants.get(invariant)
            if variant.role is VariantRole.NAIVE and part is not None and part.status is Status.BROKEN:
                yield Broken(scenario=scenario, variant=name, invariant=invariant, violations=part.count)


def _held(document: VerdictFile) -> Held:
    parts = [
        part
        for variant in document.variants.values()
        if variant.role is VariantRole.ENGINEERED
        for part in variant.invariants.values()
        if part.status is not Status.NOT_APPLICABLE
    ]
    return Held(held=sum(part.status is Status.HELD for part in parts), judged=len(parts))


def problems(records: Sequence[Record]) -> list[str]:
    """What no run could have left, a sentence each."""
    found = []
    keys = [record.key for record in records]
    found += [f"{_named(key)} is there {count} times" for key, count in Counter(keys).items() if count > 1]
    if keys != sorted(keys):
        found.append("the runs are not in the order of lab, runtime and seed")
    return found + [f"{_named(record.key)}: {wrong}" for record in records for wrong in _problems(record)]


def _named(key: tuple[str, str, int]) -> str:
    lab, runtime, seed = key
    return f"{lab} {runtime} seed {seed}"


def _problems(record: Record) -> Iterator[str]:
    held, judged = record.engineered.held, record.engineered.judged
    if NAME.fullmatch(record.lab) is None:
        yield "the lab is not named like week02-day2"
    if record.runtime not in ("native", "docker"):
        yield "the runtime is neither native nor docker"
    if record.seed < 0:
        yield "the seed is negative"
    if record.seconds <= 0:
        yield "it took no time"
    if not _is_moment(record.started_at):
        yield f"{record.started_at!r} is not a time like 2026-03-04T05:06:07Z"
    if record.commit is not None and COMMIT.fullmatch(record.commit) is None:
        yield f"{record.commit!r} is not a commit"
    if any(one.violations < 1 for one in record.naive):
        yield "something is broken without a violation"
    if not 0 <= held <= judged:
        yield f"{held} of {judged} invariants held"
    if record.verdict is Verdict.PASS and (not record.naive or not judged or held < judged):
        yield "it passed although the naive variant broke nothing or the engineered one did not hold all"


def _is_moment(text: str) -> bool:
    try:
        return datetime.strptime(text, MOMENT).replace(tzinfo=UTC).strftime(MOMENT) == text
    except ValueError:
        return False
