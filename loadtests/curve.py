"""What a step load leaves: latency against throughput as SVG, all figures as JSON, and one page with both."""

from __future__ import annotations

import io
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from loadtests.knee import Knee, Status, Step

HERE = Path(__file__).resolve().parent
JSON_NAME, SVG_NAME, PAGE_NAME = "curve.json", "curve.svg", "index.html"
INK, SOFT, RULE, MEDIAN, TAIL, BOUND = "#1d1f23", "#585d66", "#dedbd5", "#3a5fa8", "#cf4b3f", "#8a5a00"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lab",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


class CurveFile(msgspec.Struct, frozen=True):
    """`curve.json`. `superseded` are first measurements of a rate that was measured again and do not count."""

    schema: int
    system: str
    operations: str
    host: str
    at: str
    seed: int
    step_seconds: float
    warm_up_seconds: float
    p99_bound_ms: float
    ok_share_bound: float
    planned: tuple[float, ...]
    knee: Knee
    steps: tuple[Step, ...]
    superseded: tuple[Step, ...]
    problem: str
    machine: dict[str, str | int]


def machine() -> dict[str, str | int]:
    """What a knee means nothing without."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def now() -> str:
    """Wall time, for the page."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its head, and how a step fills it."""

    head: str
    field: str
    digits: int = 0
    factor: float = 1.0

    def cell(self, step: Step) -> str:
        """`-` where nothing was measured."""
        value = getattr(step, self.field)
        return "-" if value is None else f"{value * self.factor:,.{self.digits}f}"


COLUMNS = (
    Column("offered/s", "offered_per_second", 1),
    Column("acknowledged/s", "throughput_per_second", 1),
    Column("goodput %", "ok_share", 1, 100),
    Column("p50 ms", "p50_ms"),
    Column("p90 ms", "p90_ms"),
    Column("p99 ms", "p99_ms"),
    Column("max ms", "max_ms"),
    Column("attempts", "attempts", 2),
    Column("generator late, p99 ms", "lag_p99_ms"),
    Column("its cores", "cores", 2),
)


def write(folder: Path, file: CurveFile) -> Path:
    """All three files; returns the page. Without a step there is no drawing."""
    (folder / JSON_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")
    svg = drawing(file)
    if svg:
        (folder / SVG_NAME).write_text(svg, encoding="utf-8")
    page = folder / PAGE_NAME
    page.write_text(_page(file, svg), encoding="utf-8")
    return page


def _page(file: CurveFile, svg: str) -> str:
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("curve.html.j2").render(file=file, svg=svg, columns=COLUMNS)


def drawing(file: CurveFile) -> str:
    """An SVG: latency over throughput (it bends back beyond saturation), and throughput over what was offered."""
    steps = [step for step in file.steps if step.p99_ms is not None]
    if not steps:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.2), layout="constrained")
        latency, throughput = figure.subplots(1, 2, width_ratios=(1.35, 1))
        _draw_latency(latency, steps, file)
        _draw_throughput(throughput, steps, file.knee)
        for axes in (latency, throughput):
            axes.grid(color=RULE, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=0, labelsize=9)
        return _svg(figure)


def _marked(axes: Axes, xs: Sequence[float], ys: Sequence[float], steps: Sequence[Step], colour: str) -> None:
    """A dot per step; hollow where the generator was late, so that nobody reads it as the system's."""
    for x, y, step in zip(xs, ys, steps, strict=True):
        face = "white" if step.status is Status.GENERATOR else colour
        axes.plot([x], [y], marker="o", markersize=6, color=colour, markerfacecolor=face, linestyle="none", zorder=3)


def _draw_latency(axes: Axes, steps: Sequence[Step], file: CurveFile) -> None:
    xs = [step.throughput_per_second for step in steps]
    for name, colour in (("p50_ms", MEDIAN), ("p99_ms", TAIL)):
        ys = [max(getattr(step, name), 0.1) for step in steps]
        axes.plot(xs, ys, color=colour, linewidth=1.6, label=name.removesuffix("_ms"), zorder=2)
        _marked(axes, xs, ys, steps, colour)
    for step, x in zip(steps, xs, strict=True):
        axes.annotate(
            f"{step.rate:g}", (x, max(step.p99_ms or 0.1, 0.1)), xytext=(0, 7), textcoords="offset points",
            ha="center", fontsize=8.5, color=SOFT,
        )  # fmt: skip
    axes.axhline(file.p99_bound_ms, color=BOUND, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"bound on p99, {file.p99_bound_ms:g} ms", (0, file.p99_bound_ms), xycoords=("axes fraction", "data"),
        xytext=(4, 3), textcoords="offset points", ha="left", fontsize=8.5, color=BOUND,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.margins(x=0.06, y=0.14)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{file.operations} acknowledged per second; the numbers are what was offered", fontsize=9)
    axes.set_ylabel("latency from the intended send time, ms", fontsize=9)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _draw_throughput(axes: Axes, steps: Sequence[Step], knee: Knee) -> None:
    offered = [step.rate for step in steps]
    answered = [step.throughput_per_second for step in steps]
    top = max(*offered, *answered) * 1.06
    axes.plot([0, top], [0, top], color=SOFT, linewidth=1, linestyle=(0, (1, 2)))
    axes.plot(offered, answered, color=MEDIAN, linewidth=1.6)
    _marked(axes, offered, answered, steps, MEDIAN)
    if knee.rate is not None and knee.beyond is not None:
        axes.axvspan(knee.rate, knee.beyond, color=BOUND, alpha=0.15, linewidth=0)
        axes.annotate(
            "knee", (knee.rate, 0), xytext=(4, 6), textcoords="offset points", fontsize=8.5, color=BOUND
        )  # fmt: skip
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("offered per second", fontsize=9)
    axes.set_ylabel("acknowledged per second", fontsize=9)


def _svg(figure: Figure) -> str:
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    svg = target.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
