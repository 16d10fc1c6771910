"""The dashboards that Grafana is provisioned with, as the console draws them: timeseries, stat and table.

Only the JSON of `infra/grafana/dashboards` is read. A browser names a dashboard, never an expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from services.kit.errors import Problem

FOLDER = Path("infra") / "grafana" / "dashboards"
RATE_INTERVAL = "15s"
"""Grafana's: at least four scrapes."""
DRAWN = frozenset({"timeseries", "stat", "table", "row"})
ALL = ".+"
"""What `$service` stands for: all of them."""
_VARIABLE = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")
_BUILT_IN = {"__rate_interval": RATE_INTERVAL, "__interval": RATE_INTERVAL, "__range": "5m"}


class Place(msgspec.Struct, frozen=True):
    """In units of a grid 24 wide."""

    x: int = 0
    y: int = 0
    w: int = 12
    h: int = 8


class Step(msgspec.Struct, frozen=True):
    """From `value` on (None: from the bottom) in this colour."""

    color: str = ""
    value: float | None = None


class Thresholds(msgspec.Struct, frozen=True):
    mode: str = "absolute"
    steps: list[Step] = []


class Defaults(msgspec.Struct, frozen=True):
    unit: str = ""
    min: float | None = None
    max: float | None = None
    decimals: float | None = None
    thresholds: Thresholds | None = None


class FieldConfig(msgspec.Struct, frozen=True):
    defaults: Defaults = Defaults()


class Target(msgspec.Struct, frozen=True, rename={"legend": "legendFormat", "ref": "refId"}):
    expr: str = ""
    legend: str = ""
    instant: bool = False
    ref: str = "A"
    hide: bool = False


class Panel(msgspec.Struct, frozen=True, rename={"place": "gridPos", "field": "fieldConfig"}):
    """`panels` are those below a folded row."""

    type: str
    title: str = ""
    id: int = 0
    description: str = ""
    place: Place = Place()
    targets: list[Target] = []
    field: FieldConfig = FieldConfig()
    panels: list[Panel] = []


class Dashboard(msgspec.Struct, frozen=True):
    uid: str
    title: str
    tags: list[str] = []
    description: str = ""
    panels: list[Panel] = []

    def drawn(self) -> list[Panel]:
        """All panels that the console draws, those of folded rows too, from top to bottom."""
        flat = [one for panel in self.panels for one in (panel, *panel.panels)]
        return sorted((one for one in flat if one.type in DRAWN), key=lambda one: (one.place.y, one.place.x))


class NoSuchDashboard(Problem):
    def __init__(self) -> None:
        super().__init__(404, "no_such_dashboard", "There is no such dashboard")


class Dashboards:
    """Read again when a file changes."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._read: dict[Path, tuple[int, Dashboard | None]] = {}

    def all(self) -> list[Dashboard]:
        """By title, an overview first and the lab's second; a file that is no dashboard is left out."""
        found = [one for path in sorted(self._folder.glob("*.json")) if (one := self._load(path)) is not None]
        return sorted(found, key=lambda one: (_rank(one), one.title.lower()))

    def get(self, uid: str) -> Dashboard:
        """Raises NoSuchDashboard."""
        for one in self.all():
            if one.uid == uid:
                return one
        raise NoSuchDashboard

    def _load(self, path: Path) -> Dashboard | None:
        try:
            changed = path.stat().st_mtime_ns
            if path not in self._read or self._read[path][0] != changed:
                self._read[path] = (changed, _decode(path.read_bytes()))
        except OSError:
            return None
        return self._read[path][1]


def _decode(text: bytes) -> Dashboard | None:
    try:
        return msgspec.json.decode(text, type=Dashboard)
    except msgspec.DecodeError:
        return None


def _rank(dashboard: Dashboard) -> int:
    words = {dashboard.uid.lower(), *(tag.lower() for tag in dashboard.tags)}
    return 0 if any("overview" in word for word in words) else 1 if "lab" in words else 2


def expand(expr: str) -> str:
    """An expression as Prometheus takes it: Grafana's variables replaced, `$service` by all services."""
    return _VARIABLE.sub(lambda match: _BUILT_IN.get(match[1], ALL), expr)


def legend(template: str, labels: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """`{{name}}` filled in; without a template the labels themselves, but for those in `others`."""
    if template and template != "__auto":
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), template)
    shown = [f"{name}={value}" for name, value in sorted(labels.items()) if name != "__name__" and name not in others]
    return ", ".join(shown) or labels.get("__name__", "value")
