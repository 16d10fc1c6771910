"""The whole soak in one drawing: what was wrong when, what each load came to, how much memory the processes held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labs.engine.chart import FAIL, FAULT, GRID, LINE, OK, STYLE, UNKNOWN, as_svg
from labs.engine.model import FaultRecord, Operation, Outcome
from labs.soak.growth import MIB
from labs.soak.samples import Sample, by_service

MOST_BINS = 180
MOST_MEMORY_POINTS = 120
LARGEST_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Bin:
    """A stretch of a load that begins at `at`. Rates are operations per second, by intended send time."""

    at: float
    ok: float
    fail: float
    unknown: float


def binned(operations: Sequence[Operation], start: float, end: float, most: int = MOST_BINS) -> list[Bin]:
    """At most so many stretches of equal length, a second at least, empty ones too."""
    length = max(1.0, (end - start) / most)
    count = max(1, round((end - start) / length + 0.5))
    totals = [dict.fromkeys(Outcome, 0) for _ in range(count)]
    for one in operations:
        number = int((one.intended_at - start) / length)
        if 0 <= number < count:
            totals[number][one.outcome] += 1
    return [
        Bin(
            start + number * length,
            of[Outcome.OK] / length,
            of[Outcome.FAIL] / length,
            of[Outcome.UNKNOWN] / length,
        )
        for number, of in enumerate(totals)
    ]


def overview(
    history: Mapping[str, Sequence[Operation]],
    faults: Sequence[FaultRecord],
    samples: Sequence[Sample],
    load: tuple[float, float],
) -> str:
    """An SVG element; "" where no load ran."""
    begins = [operations[0].intended_at for operations in history.values() if operations]
    if not begins:
        return ""
    start, end = min(begins), max(load[1], max(begins) + 1.0)
    targets = list(dict.fromkeys(one.target for one in faults if one.injected_at is not None))
    heights = [0.16 * max(len(targets), 1) + 0.2, *(0.8 for _ in history), 1.8]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, sum(heights) + 0.8), layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _draw_faults(axes[0], faults, targets)
        for one, (name, operations) in zip(axes[1:-1], history.items(), strict=True):
            _draw_load(one, name, binned(operations, start, end), faults)
        axes[1].legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), frameon=False, fontsize=8, borderpad=0)
        _draw_memory(axes[-1], samples, end)
        axes[-1].set_xlabel("seconds from the start of the run", fontsize=9)
        axes[-1].set_xlim(start, end)
        return as_svg(figure)


def _draw_faults(axes: Axes, faults: Sequence[FaultRecord], targets: Sequence[str]) -> None:
    for one in faults:
        if one.injected_at is None:
            continue
        begin = min(one.planned_at, one.injected_at)
        length = max((one.healed_at or one.injected_at) - begin, 0.5)
        axes.barh(-targets.index(one.target), length, left=begin, height=0.7, color=FAULT, alpha=0.7, linewidth=0)
    axes.set_yticks([-number for number in range(len(targets))], [name[:32] for name in targets], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _draw_load(axes: Axes, name: str, bins: Sequence[Bin], faults: Sequence[FaultRecord]) -> None:
    edges = [one.at for one in bins]
    below = [0.0] * len(bins)
    for colour, label, values in (
        (OK, "acknowledged", [one.ok for one in bins]),
        (FAIL, "told failed", [one.fail for one in bins]),
        (UNKNOWN, "unknown", [one.unknown for one in bins]),
    ):
        top = [base + value for base, value in zip(below, values, strict=True)]
        axes.fill_between(edges, below, top, step="post", color=colour, label=label, linewidth=0)
        below = top
    for fault in faults:
        if fault.injected_at is not None and fault.healed_at is not None:
            begin = min(fault.planned_at, fault.injected_at)
            axes.axvspan(begin, fault.healed_at, color=FAULT, alpha=0.08, linewidth=0, zorder=0)
    axes.set_ylim(0)
    axes.set_ylabel(f"{name} / s", fontsize=8)
    _plain(axes)


def _draw_memory(axes: Axes, samples: Sequence[Sample], end: float) -> None:
    """The largest by name, all others without."""
    series = by_service([one for one in samples if one.at <= end])
    largest = sorted(series, key=lambda name: -max(one.memory_bytes for one in series[name]))[:LARGEST_SHOWN]
    for name, own in series.items():
        step = max(1, len(own) // MOST_MEMORY_POINTS)
        points = own[::step]
        known = name in largest
        axes.plot([one.at for one in points], [one.memory_bytes / MIB for one in points], color=LINE,
                  linewidth=1.1 if known else 0.6, alpha=0.9 if known else 0.35)  # fmt: skip
        if known:
            axes.annotate(name, (points[-1].at, points[-1].memory_bytes / MIB), fontsize=7, ha="right", va="bottom")
    axes.set_yscale("log")
    axes.set_ylabel("MiB", fontsize=8)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
