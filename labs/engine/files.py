"""The files of a run, as structures. The JSON Schemas in `schemas/` are written from these; a test keeps them the same.

Times are float seconds on the monotonic clock from the start of the run; its wall time is in experiment.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from labs.engine.model import Outcome, Phase, Status, VariantRole, Verdict

SCHEMAS = Path(__file__).parent / "schemas"
Plain = None | bool | int | float | str | list[Any] | dict[str, Any]
"""Whatever JSON holds: parameters and receipts differ by fault kind."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What every document and line begins with."""

    schema: Literal[1] = 1


class VariantPart(msgspec.Struct, frozen=True, kw_only=True):
    """A variant as it was set up."""

    role: VariantRole
    title: str
    roles: dict[str, str]
    edges: dict[str, str]
    processes: list[str]
    environment: dict[str, str] = {}
    load_options: list[str] = []
    hold_seconds: float | None = None


class LoadPart(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` in operations per second; seconds of the phases."""

    script: str
    rate: float
    max_in_flight: int
    control_seconds: float
    baseline_seconds: float
    inject_seconds: float


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """`at` and `lasting` are scaled as they were run; seconds from the start of inject."""

    at: float
    lasting: float
    kind: str
    role: str
    parameters: dict[str, Plain]


class ScenarioPart(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario as it was planned."""

    faults: list[PlannedFault]
    discriminates: str
    at_least: int


class Experiment(Line, frozen=True, kw_only=True):
    """experiment.json."""

    lab: str
    title: str
    question: str
    hypothesis: str
    prediction: str | None
    variants: dict[str, VariantPart]
    scenarios: dict[str, ScenarioPart]
    seed: int
    load: LoadPart
    short: bool
    options: dict[str, Plain] = {}
    """What was said beside week, day and seed that makes it another experiment: variant, rate, seconds, docs."""
    started_at: str
    """Wall time of second 0, RFC 3339 in UTC."""
    commit: str | None = None
    """Of the checkout, with `-dirty` behind where files were changed; None where there is no git."""
    versions: dict[str, str]
    host: dict[str, Plain]
    runtime: str
    images: dict[str, str]
    stand_ins: list[str]
    """Those of the images that are other builds under an official name, or made on one, as their label says. Empty without Docker."""
    configuration_hash: str


class HistoryLine(Line, frozen=True, kw_only=True):
    """A line of history.jsonl: one operation of the client."""

    scenario: str
    variant: str
    phase: Phase
    id: str
    key: str
    kind: str
    intended_at: float
    sent_at: float | None
    done_at: float | None
    attempts: int
    status: int | None
    outcome: Outcome
    error: str | None
    result: dict[str, str]


class ReceiptPart(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that the fault touched real traffic."""

    proven: bool
    summary: str
    facts: dict[str, Plain]


class FaultLine(Line, frozen=True, kw_only=True):
    """A line of faults.jsonl. A heal line carries the receipt; `error` is from that step."""

    scenario: str
    variant: str
    event: Literal["inject", "heal"]
    at: float
    kind: str
    role: str
    target: str
    parameters: dict[str, Plain]
    receipt: ReceiptPart | None = None
    error: str | None = None


class ProbeLine(Line, frozen=True, kw_only=True):
    """A line of probes.jsonl: a steady-state figure beside its limit, or a recovery probe (value in seconds)."""

    scenario: str
    variant: str
    phase: Phase
    at: float
    name: str
    ok: bool
    value: float | None
    limit: float
    unit: str
    source: str
    note: str = ""


class CountPart(msgspec.Struct, frozen=True, kw_only=True):
    """How many, and the first ten."""

    count: int
    ids: list[str]


class ReconcilePart(msgspec.Struct, frozen=True, kw_only=True):
    """One variant in one scenario, in operation keys."""

    attempted: int
    acknowledged: int
    found: int
    lost: CountPart
    duplicated: CountPart
    recovered: CountPart
    unexpected: CountPart
    contradicted: CountPart


class ReconcileFile(Line, frozen=True, kw_only=True):
    """reconcile.json: by scenario, then variant."""

    scenarios: dict[str, dict[str, ReconcilePart]]


class LatencyPart(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the intended send time."""

    p50: float
    p95: float
    p99: float
    max: float


class InvariantPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a checker found; the first ten offenders."""

    status: Status
    count: int
    offenders: list[str]
    note: str = ""


class FigurePart(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a variant in a scenario, beside its limit if the lab sets one."""

    name: str
    value: float | None
    unit: str
    source: str
    limit: float | None = None
    scenario: str = "main"


class VariantVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A variant measured by all invariants; a naive one is expected to be `fail`."""

    role: VariantRole
    verdict: Verdict
    invariants: dict[str, InvariantPart]
    latency_ms: LatencyPart | None
    recovery_seconds: float | None
    reasons: list[str] = []
    figures: list[FigurePart] = []


class ScenarioVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario."""

    variants: dict[str, VariantVerdict]


class MetricPart(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and where it comes from."""

    value: float | None
    unit: str
    source: str


class VerdictFile(Line, frozen=True, kw_only=True):
    """verdict.json; the top level holds the worst over the scenarios."""

    lab: str
    verdict: Verdict
    seconds: float | None = None
    """From the start of the run to its verdict; None in files of before this was kept."""
    reasons: list[str]
    metrics: dict[str, MetricPart]
    variants: dict[str, VariantVerdict]
    scenarios: dict[str, ScenarioVerdict]


FILES: Mapping[str, type[Line]] = {
    "experiment.json": Experiment,
    "history.jsonl": HistoryLine,
    "faults.jsonl": FaultLine,
    "probes.jsonl": ProbeLine,
    "reconcile.json": ReconcileFile,
    "verdict.json": VerdictFile,
}

T = TypeVar("T", bound=Line)


def schema_path(name: str) -> Path:
    """Of `verdict.json`: schemas/verdict.schema.json. For a .jsonl file the schema is that of one line."""
    return SCHEMAS / f"{name.rpartition('.')[0]}.schema.json"


def schema_text(name: str) -> str:
    """The JSON Schema (2020-12) of a file, from its structure."""
    (reference,), components = msgspec.json.schema_components((FILES[name],), ref_template="#/$defs/{name}")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        **reference,
        "$defs": _closed(components),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _closed(components: Mapping[str, Any]) -> dict[str, Any]:
    """A document with a field too many is a mistake as well."""
    return {
        name: {**part, "additionalProperties": False, "required": sorted(part["properties"])}
        if part.get("type") == "object"
        else part
        for name, part in components.items()
    }


def write_schemas() -> None:
    """Write all schemas again, after a change of the structures."""
    SCHEMAS.mkdir(exist_ok=True)
    for name in FILES:
        schema_path(name).write_text(schema_text(name))


def write(path: Path, document: Line) -> None:
    """One document, indented."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def append(path: Path, lines: Iterable[Line]) -> None:
    """Lines, each on its own."""
    with path.open("ab") as file:
        file.writelines(msgspec.json.encode(line) + b"\n" for line in lines)


def read(path: Path, kind: type[T]) -> T:
    """A document. Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=kind)


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """All lines. Raises OSError, msgspec.DecodeError."""
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


if __name__ == "__main__":
    write_schemas()
