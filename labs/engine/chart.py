"""The timeline of a trial as SVG: operations by outcome and p99 per second, with the fault windows shaded.

Colours are placeholders that become CSS variables, so that one drawing is readable on light and on dark paper.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from labs.engine.model import FaultRecord, Operation, Outcome, Phase
from labs.engine.steady import latency_of
from labs.engine.trial import Trial

INK, GRID, OK, FAIL, UNKNOWN, LINE, FAULT = (
    "#010101",
    "#020202",
    "#030303",
    "#040404",
    "#050505",
    "#060606",
    "#070707",
)
VARIABLES = {
    INK: "--ink-soft",
    GRID: "--rule",
    OK: "--ok",
    FAIL: "--fail",
    UNKNOWN: "--unknown",
    LINE: "--line",
    FAULT: "--fault",
}
LONGEST_LABEL = 60
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lab",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the load, by intended send time."""

    at: int
    ok: int
    fail: int
    unknown: int
    p99_ms: float | None


def per_second(operations: Sequence[Operation], start: float, end: float) -> list[Second]:
    """Every second from `start` to `end`, empty ones too."""
    buckets: dict[int, list[Operation]] = {at: [] for at in range(math.floor(start), math.ceil(end))}
    for one in operations:
        if (at := math.floor(one.intended_at)) in buckets:
            buckets[at].append(one)
    seconds = []
    for at, ones in buckets.items():
        told = {outcome: sum(one.outcome is outcome for one in ones) for outcome in Outcome}
        p99 = None if (latency := latency_of(ones)) is None else latency.p99
        seconds.append(Second(at, told[Outcome.OK], told[Outcome.FAIL], told[Outcome.UNKNOWN], p99))
    return seconds


def timeline(trial: Trial) -> str:
    """An SVG element; "" for a trial without operations after the control."""
    operations = [one for one in trial.history if one.phase is not Phase.CONTROL]
    if not operations:
        return ""
    seconds = per_second(operations, operations[0].intended_at, operations[-1].intended_at)
    rows = max(1, len(trial.faults))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 3.5 + 0.2 * rows), layout="constrained")
        heights = [0.2 * rows + 0.1, 1.7, 1.2]
        faults, load, latency = figure.subplots(3, 1, sharex=True, height_ratios=heights)
        _draw_faults(faults, trial.faults, seconds[0].at, seconds[-1].at + 1)
        _draw_load(load, seconds)
        _draw_latency(latency, seconds)
        for axes in (load, latency):
            _shade(axes, trial.faults)
        latency.set_xlabel("seconds from the start of the run, by intended send time", fontsize=9)
        latency.set_xlim(seconds[0].at, seconds[-1].at + 1)
        return as_svg(figure)


def _window(fault: FaultRecord) -> tuple[float, float] | None:
    begin = fault.begun_at
    if begin is None:
        return None
    return begin, max(fault.healed_at or fault.injected_at or begin, begin + 0.3)


def _shade(axes: Axes, faults: Sequence[FaultRecord]) -> None:
    for fault in faults:
        if (window := _window(fault)) is not None:
            axes.axvspan(*window, color=FAULT, alpha=0.13, linewidth=0, zorder=0)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9)


def _draw_faults(axes: Axes, faults: Sequence[FaultRecord], first: float, last: float) -> None:
    for row, fault in enumerate(faults):
        window = _window(fault)
        if window is None:
            continue
        begin, end = window
        axes.barh(-row, end - begin, left=begin, height=0.66, color=FAULT, alpha=0.38, linewidth=0)
        text = f"{fault.kind} {fault.target}" if fault.target not in fault.kind else fault.kind
        place, side = _beside(begin, end, first, last)
        label = axes.text(place, -row, _short(text), va="center", ha=side, fontsize=8.5, clip_on=True)
        label.set_in_layout(False)  # else a long label leaves the axes no room
    axes.set_ylim(-max(len(faults), 1) + 0.4, 0.6)
    axes.axis("off")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def _beside(begin: float, end: float, first: float, last: float) -> tuple[float, Literal["left", "right"]]:
    """Where a bar's label goes: into a long bar, else to the side that has room."""
    length = last - first
    gap = length / 150
    if end - begin > length * 0.4:
        return begin + gap, "left"
    return (end + gap, "left") if end - first < length * 0.7 else (begin - gap, "right")


def _draw_load(axes: Axes, seconds: Sequence[Second]) -> None:
    edges = [second.at for second in seconds] + [seconds[-1].at + 1]
    below = [0] * len(edges)
    for label, colour, values in (
        ("acknowledged", OK, [second.ok for second in seconds]),
        ("told failed", FAIL, [second.fail for second in seconds]),
        ("unknown", UNKNOWN, [second.unknown for second in seconds]),
    ):
        top = [base + value for base, value in zip(below, [*values, values[-1]], strict=True)]
        axes.fill_between(edges, below, top, step="post", color=colour, label=label, linewidth=0)
        below = top
    axes.set_ylim(0)
    axes.set_ylabel("operations / s", fontsize=9)
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), frameon=False, fontsize=8.5, borderpad=0)


def _draw_latency(axes: Axes, seconds: Sequence[Second]) -> None:
    known = [(second.at + 0.5, second.p99_ms) for second in seconds if second.p99_ms is not None]
    axes.plot([at for at, _ in known], [max(value, 0.1) for _, value in known], color=LINE, linewidth=1.6)
    axes.set_yscale("log")
    axes.set_ylabel("p99 ms", fontsize=9)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()


def as_svg(figure: Figure) -> str:
    """The figure as an SVG element, whose colours are CSS variables."""
    target = io.StringIO()
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    svg = target.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"|(<svg [^>]*?)height="[\d.]+pt" width="[\d.]+pt"',
        _unsized,
        svg,
        count=1,
    )
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _unsized(match: re.Match[str]) -> str:
    return match.group(1) or match.group(2) or ""
