"""The few kinds of panel that all dashboards are made of: what Grafana shows and the console can draw too."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = "lab-prometheus"
RATE = "$__rate_interval"
HEIGHT = 7
STAT_HEIGHT = 4
"""Of a line that holds nothing but numbers."""
WIDTHS = {"timeseries": 8, "stat": 4, "table": 12}
_GREEN, _RED = "green", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """`legend` may use labels as `{{label}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing. `unit` is Grafana's (s, reqps, percentunit, bytes, short ...), `limit` a stated objective in it.

    `limit` colours what lies above it; with `floor` what lies below it is bad.
    """

    kind: str
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    limit: float | None = None
    floor: bool = False
    exemplars: bool = False
    least: float | None = 0.0
    most: float | None = None
    width: int | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """Marks where `expr` is above zero, named by labels."""

    name: str
    expr: str
    title: str
    colour: str


@dataclass(frozen=True, slots=True)
class Board:
    """`rows` are titles with their panels."""

    uid: str
    title: str
    description: str
    tags: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    annotations: tuple[Annotation, ...] = ()

    def panels(self) -> list[Panel]:
        return [panel for _, panels in self.rows for panel in panels]


def series(
    title: str,
    description: str,
    unit: str,
    *queries: Query | str,
    limit: float | None = None,
    floor: bool = False,
    exemplars: bool = False,
    least: float | None = 0.0,
    most: float | None = None,
    width: int | None = None,
) -> Panel:
    """Lines over time."""
    return Panel("timeseries", title, description, unit, _queries(queries), limit, floor, exemplars, least, most, width)


def number(
    title: str,
    description: str,
    unit: str,
    query: Query | str,
    *,
    limit: float | None = None,
    floor: bool = False,
    decimals: int | None = None,
) -> Panel:
    """The newest value, large."""
    return Panel("stat", title, description, unit, _queries((query,)), limit, floor, decimals=decimals)


def rows(title: str, description: str, unit: str, *queries: Query | str, width: int | None = None) -> Panel:
    """The newest values as a table, one line per label set."""
    return Panel("table", title, description, unit, _queries(queries), width=width)


def _queries(queries: Sequence[Query | str]) -> tuple[Query, ...]:
    return tuple(one if isinstance(one, Query) else Query(one) for one in queries)


def render(board: Board) -> str:
    """Grafana's JSON, the same bytes each time."""
    builder = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(list(board.tags))
        .time("now-15m", "now")
        .refresh("5s")
        .timezone("browser")
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    )
    for one in board.annotations:
        builder.annotation(_annotation(one))
    identifier = 1
    top = 0
    for title, panels in board.rows:
        builder.with_row(builders.Row(title).id(identifier).grid_pos(dashboard.GridPos(h=1, w=24, x=0, y=top)))
        identifier, top = identifier + 1, top + 1
        for line in _lines(panels):
            height = STAT_HEIGHT if all(panel.kind == "stat" for panel in line) else HEIGHT
            left = 0
            for panel in line:
                place = dashboard.GridPos(h=height, w=_width(panel), x=left, y=top)
                builder.with_panel(_BUILDERS[panel.kind](panel).id(identifier).grid_pos(place))
                identifier, left = identifier + 1, left + _width(panel)
            top += height
    document = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    for shown, one in zip(document.get("annotations", {}).get("list", ()), board.annotations, strict=True):
        # The SDK's builder knows no more than the name; Grafana reads these beside it.
        shown |= {"expr": one.expr, "titleFormat": one.title, "step": "1s"}
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _width(panel: Panel) -> int:
    return panel.width or WIDTHS[panel.kind]


def _lines(panels: Sequence[Panel]) -> list[list[Panel]]:
    """As many side by side as 24 columns hold."""
    lines: list[list[Panel]] = [[]]
    for panel in panels:
        if sum(map(_width, lines[-1])) + _width(panel) > 24:
            lines.append([])
        lines[-1].append(panel)
    return lines


def _source() -> dashboard.DataSourceRef:
    return dashboard.DataSourceRef(type_val="prometheus", uid=DATASOURCE)


def _targets(panel: Panel, *, instant: bool) -> list[prometheus.Dataquery]:
    found = []
    for number_of, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id("ABCDEFGH"[number_of]).datasource(_source())
        if query.legend:
            target.legend_format(query.legend)
        if instant:
            target.instant()
        else:
            target.range()
        if panel.kind == "table":
            target.format(PromQueryFormat.TABLE)
        if panel.exemplars:
            target.exemplar(True)
        found.append(target)
    return found


def _thresholds(panel: Panel) -> builders.ThresholdsConfig:
    low, high = (_RED, _GREEN) if panel.floor else (_GREEN, _RED)
    steps = [dashboard.Threshold(value=None, color=_GREEN if panel.limit is None else low)]
    if panel.limit is not None:
        steps.append(dashboard.Threshold(value=panel.limit, color=high))
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _timeseries(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(_source())
        .thresholds(_thresholds(panel))
        .line_width(1)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if panel.limit is not None:
        line = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.LINE)
        built.thresholds_style(line)
    if panel.least is not None:
        built.min(panel.least)
    if panel.most is not None:
        built.max(panel.most)
    for target in _targets(panel, instant=False):
        built.with_target(target)
    return built


def _stat(panel: Panel) -> stat.Panel:
    built = (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(_source())
        .thresholds(_thresholds(panel))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if panel.decimals is not None:
        built.decimals(panel.decimals)
    for target in _targets(panel, instant=True):
        built.with_target(target)
    return built


def _table(panel: Panel) -> table.Panel:
    built = (
        table.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(_source())
        .thresholds(_thresholds(panel))
    )
    for target in _targets(panel, instant=True):
        built.with_target(target)
    return built


PanelBuilder = timeseries.Panel | stat.Panel | table.Panel
_BUILDERS: dict[str, Callable[[Panel], PanelBuilder]] = {"timeseries": _timeseries, "stat": _stat, "table": _table}


def _annotation(one: Annotation) -> builders.AnnotationQuery:
    return builders.AnnotationQuery().name(one.name).datasource(_source()).enable(True).icon_color(one.colour)
