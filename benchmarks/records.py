"""A whole run of a benchmark as one measured fact, and the file that keeps the newest of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.rows import Figures
from benchmarks.systems import DEFAULT_DOCS, FEWEST_DOCS, FIGURES, MOST_DOCS, ROUNDS, SEARCH, SECONDS

MOMENT = "%Y-%m-%dT%H:%M:%SZ"
COMMIT = re.compile(r"[0-9a-f]{7,40}(-dirty)?")
RUNTIMES = ("native", "docker")


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a figure means nothing without. `disk` is the file system that holds the data, and its size."""

    cpu: str
    cores: int
    memory_gib: int
    disk: str
    system: str
    kernel: str
    python: str


class Around(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the machine was just before: processes that wanted a core (one minute's average), a durable write of 8 KiB in ms."""

    load_average: float
    sync_ms: float


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run. `at` is its end in UTC, `took_seconds` its length; `commit` and `around` are None where they are not known.

    `versions` are of the servers; `stand_ins` are images that were other builds than the official ones of their name.
    """

    schema: Literal[1] = 1
    system: str
    docs: int | None
    runtime: str
    at: str
    took_seconds: int
    commit: str | None
    rounds: int
    seconds: int
    machine: Machine
    around: Around | None
    versions: dict[str, str]
    stand_ins: list[str]
    figures: msgspec.Raw

    @property
    def key(self) -> tuple[int, int, int]:
        """Of which only the newest is kept; also the order of the file and of the document."""
        return (list(FIGURES).index(self.system), RUNTIMES.index(self.runtime), self.docs or 0)

    @property
    def name(self) -> str:
        """As `search, 50,000 documents (docker)`."""
        size = f", {self.docs:,} documents" if self.docs else ""
        return f"{self.system}{size}{'' if self.runtime == 'native' else f' ({self.runtime})'}"

    @property
    def command(self) -> str:
        """What makes it again."""
        docs = f" docs={self.docs}" if self.docs and self.docs != DEFAULT_DOCS else ""
        return (
            f"{'' if self.runtime == 'native' else f'LAB_RUNTIME={self.runtime} '}make bench system={self.system}{docs}"
        )

    @property
    def whole(self) -> bool:
        """Whether nothing was shortened."""
        return self.rounds >= ROUNDS and self.seconds >= SECONDS

    def read(self) -> Figures:
        """What was found. Raises ValueError (msgspec.DecodeError is one) where this version of the benchmark has other figures."""
        return msgspec.json.decode(self.figures, type=FIGURES[self.system])


class Records(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """docs/benchmarks.json."""

    schema: Literal[1] = 1
    runs: list[Record] = []


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a folder of results: `left_out` says why a file was not taken."""

    records: list[Record] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def file_name(system: str, docs: int | None, runtime: str) -> str:
    """Of a run's result: `payments.json`, `search-1000000.json`, `cron.docker.json`."""
    size = f"-{docs}" if docs and docs != DEFAULT_DOCS else ""
    return f"{system}{size}{'' if runtime == 'native' else f'.{runtime}'}.json"


def write(path: Path, text: str) -> None:
    """All of it or nothing, whatever kills us."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, "utf-8")
    scratch.replace(path)


def text_of(document: Record | Records) -> str:
    """A file's content."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


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


def collect(folder: Path, pattern: str) -> Found:
    """All whole runs whose results lie in a folder like .lab/bench, in files whose names fit."""
    found = Found()
    for path in sorted(folder.glob(pattern)):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError) as error:
            found.left_out.append(f"{path.name} is no result of this version's: {error}")
            continue
        if wrong := problems([record]):
            found.left_out.append(f"{path.name} is damaged: {'; '.join(wrong)}")
        elif not record.whole:
            found.left_out.append(
                f"{path.name} is of a shortened run ({record.rounds} rounds of {record.seconds} s), the document is of {ROUNDS} of {SECONDS} s"
            )
        else:
            found.records.append(record)
    return found


def merged(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """The newest of each system, runtime and size, in the order of the document."""
    newest: dict[tuple[int, int, int], Record] = {}
    for record in sorted([*old, *new], key=lambda one: one.at):
        newest[record.key] = record
    return [newest[key] for key in sorted(newest)]


def problems(records: Sequence[Record]) -> list[str]:
    """What no run could have left, a sentence each."""
    wrong = [f"{one.system} ({one.runtime}): {problem}" for one in records for problem in _problems(one)]
    if wrong:
        return wrong
    keys = [one.key for one in records]
    wrong += [f"{one.name} is there {keys.count(one.key)} times" for one in _doubled(records)]
    if keys != sorted(keys):
        wrong.append("the runs are not in the order of the document")
    return wrong


def _doubled(records: Sequence[Record]) -> list[Record]:
    counts = Counter(one.key for one in records)
    first = {one.key: one for one in reversed(records)}
    return [first[key] for key, count in counts.items() if count > 1]


def _problems(record: Record) -> Iterator[str]:
    if record.system not in FIGURES:
        yield f"there is no benchmark of {record.system}"
        return
    if record.runtime not in RUNTIMES:
        yield "the runtime is neither native nor docker"
    if (record.docs is not None) != (record.system == SEARCH):
        yield "search has a size, and nothing else"
    elif record.docs is not None and not FEWEST_DOCS <= record.docs <= MOST_DOCS:
        yield f"{record.docs} documents are not between {FEWEST_DOCS} and {MOST_DOCS}"
    if not _is_moment(record.at):
        yield f"{record.at!r} is not a time like 2026-03-04T05:06:07Z"
    if record.commit is not None and COMMIT.fullmatch(record.commit) is None:
        yield f"{record.commit!r} is not a commit"
    if min(record.rounds, record.seconds, record.took_seconds, record.machine.cores, record.machine.memory_gib) < 1:
        yield "a number that counts something is below one"
    try:
        record.read()
    except ValueError as error:
        yield f"its figures are not those of this version ({error}); measure it again: {record.command}"


def _is_moment(text: str) -> bool:
    try:
        return datetime.strptime(text, MOMENT).replace(tzinfo=UTC).strftime(MOMENT) == text
    except ValueError:
        return False
