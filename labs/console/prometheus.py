"""Asks Prometheus for what the dashboards name; a bounded number of points and series, a few queries at a time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import msgspec

from labs.console.dashboards import Dashboard, Panel, Target, expand, legend
from services.kit.errors import Problem

POINTS = 240
MOST_SERIES = 40
MOST_EXEMPLARS = 60
AT_ONCE = 4
TIMEOUT_SECONDS = 6.0
WINDOWS = (5, 15, 60)
"""Minutes that a page may look back."""
ANNOTATIONS = {"fault": "lab_fault_active == 1", "phase": "lab_phase == 1"}
_TIMEOUT = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)


class Sample(msgspec.Struct, frozen=True):
    metric: dict[str, str]
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []


class Data(msgspec.Struct, frozen=True, rename={"kind": "resultType"}):
    kind: str = ""
    result: msgspec.Raw = msgspec.Raw(b"[]")


class Answer(msgspec.Struct, frozen=True):
    status: str
    data: Data = Data()
    error: str = ""


class WireExemplar(msgspec.Struct, frozen=True):
    labels: dict[str, str]
    value: str
    timestamp: float


class ExemplarSeries(msgspec.Struct, frozen=True):
    exemplars: list[WireExemplar] = []


class ExemplarAnswer(msgspec.Struct, frozen=True):
    data: list[ExemplarSeries] = []


class MetricsAway(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(503, "metrics_away", "Prometheus does not answer", detail=detail, headers={"Retry-After": "3"})


class BadQuery(Exception):
    """Prometheus refused an expression; its words."""


@dataclass(frozen=True, slots=True)
class Series:
    """`name` as in the legend; points are (seconds of wall time, value or None where there is no number)."""

    name: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One request behind a histogram: seconds of wall time, its value, and the trace that it was."""

    at: float
    value: float
    trace: str


@dataclass(frozen=True, slots=True)
class PanelData:
    """What a panel shows. `problem` says why it is empty."""

    id: int
    series: tuple[Series, ...] = ()
    problem: str = ""
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """In seconds; `step` keeps to the number of points."""

    start: float
    end: float
    step: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A fault or a phase of a running lab, drawn behind the curves."""

    kind: str
    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class DashboardData:
    window: Window
    panels: tuple[PanelData, ...]
    marks: tuple[Mark, ...]


def window(minutes: int, now: float) -> Window:
    """The last minutes, with steps of whole seconds."""
    step = max(1, math.ceil(minutes * 60 / POINTS))
    end = math.floor(now / step) * step
    return Window(end - minutes * 60, end, step)


class Prometheus:
    """`http` is shared with the console's other clients."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def dashboard(self, base: str, dashboard: Dashboard, minutes: int) -> DashboardData:
        """Every panel's data. Raises MetricsAway."""
        seen = window(minutes, time.time())
        panels = [panel for panel in dashboard.drawn() if panel.type != "row"]
        results, marks = await asyncio.gather(
            asyncio.gather(*(self._panel(base, panel, seen) for panel in panels)), self._marks(base, seen)
        )
        return DashboardData(seen, tuple(results), marks)

    async def ready(self, base: str) -> bool:
        """Whether there is one."""
        try:
            async with self._http.get(f"{base}/-/ready", timeout=aiohttp.ClientTimeout(total=1.0)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _panel(self, base: str, panel: Panel, seen: Window) -> PanelData:
        series: list[Series] = []
        try:
            for target in panel.targets:
                if target.expr and not target.hide:
                    series += await self._target(base, panel, target, seen)
        except BadQuery as problem:
            return PanelData(panel.id, problem=str(problem))
        return PanelData(panel.id, tuple(series[:MOST_SERIES]), "", await self._exemplars(base, panel, seen))

    async def _exemplars(self, base: str, panel: Panel, seen: Window) -> tuple[Exemplar, ...]:
        """Of a panel that is drawn from histograms; none where Prometheus keeps none."""
        found: list[Exemplar] = []
        for target in panel.targets:
            if panel.type != "timeseries" or "_bucket" not in target.expr:
                continue
            asked = {"query": expand(target.expr), "start": f"{seen.start}", "end": f"{seen.end}"}
            try:
                async with (
                    self._slots,
                    self._http.get(f"{base}/api/v1/query_exemplars", params=asked, timeout=_TIMEOUT) as response,
                ):
                    answer = msgspec.json.decode(await response.read(), type=ExemplarAnswer)
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                continue
            found += [
                Exemplar(one.timestamp, float(one.value), one.labels["trace_id"])
                for series in answer.data
                for one in series.exemplars
                if "trace_id" in one.labels
            ]
        return tuple(sorted(found, key=lambda one: one.at)[-MOST_EXEMPLARS:])

    async def _target(self, base: str, panel: Panel, target: Target, seen: Window) -> list[Series]:
        expr = expand(target.expr)
        now = target.instant or panel.type == "table"
        samples = await (self._instant(base, expr, seen.end) if now else self._range(base, expr, seen))
        return [Series(legend(target.legend, one.metric), one.metric, _points(one)) for one in samples[:MOST_SERIES]]

    async def _instant(self, base: str, expr: str, at: float) -> list[Sample]:
        return await self._ask(f"{base}/api/v1/query", {"query": expr, "time": f"{at}"})

    async def _range(self, base: str, expr: str, seen: Window) -> list[Sample]:
        asked = {"query": expr, "start": f"{seen.start}", "end": f"{seen.end}", "step": f"{seen.step}"}
        return await self._ask(f"{base}/api/v1/query_range", asked)

    async def _ask(self, url: str, asked: Mapping[str, str]) -> list[Sample]:
        try:
            async with self._slots, self._http.get(url, params=asked, timeout=_TIMEOUT) as response:
                body = await response.read()
                answer = msgspec.json.decode(body, type=Answer)
                samples = _samples(answer.data)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise MetricsAway("It is not running, or it is busy starting.") from error
        if answer.status != "success":
            raise BadQuery(answer.error[:300] or "Prometheus refused the expression.")
        return samples

    async def _marks(self, base: str, seen: Window) -> tuple[Mark, ...]:
        found: list[Mark] = []
        for kind, expr in ANNOTATIONS.items():
            try:
                samples = await self._range(base, expr, seen)
            except BadQuery:
                continue
            for one in samples[:200]:
                found += marks_of(kind, one, seen.step)
        return tuple(sorted(found, key=lambda mark: mark.start))


def _samples(data: Data) -> list[Sample]:
    """A scalar is a sample without labels."""
    if data.kind == "scalar":
        return [Sample({}, msgspec.json.decode(data.result, type=tuple[float, str]))]
    return msgspec.json.decode(data.result, type=list[Sample])


def _points(sample: Sample) -> tuple[tuple[float, float | None], ...]:
    pairs = sample.values or ([sample.value] if sample.value is not None else [])
    return tuple((at, _number(text)) for at, text in pairs)


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def marks_of(kind: str, sample: Sample, step: float) -> list[Mark]:
    """Runs of neighbouring points, each a mark."""
    labels = sample.metric
    text = labels.get(kind, "") + (f" {labels['target']}" if labels.get("target") else "")
    text = f"{labels.get('variant', '')}: {text}".removeprefix(": ")
    marks: list[Mark] = []
    for at, _ in sample.values:
        if marks and at - marks[-1].end <= 1.5 * step:
            marks[-1] = Mark(kind, text, marks[-1].start, at)
        else:
            marks.append(Mark(kind, text, at, at))
    return marks
