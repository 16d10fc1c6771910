"""Dashboards and rules speak only of metrics that somebody declares, and every panel says what it shows."""

from __future__ import annotations

import functools
import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from infra.grafana.__main__ import FOLDER, documents, out_of_date
from labs.engine.annotate import Marks
from services.kit.jvm import metrics as jvm_metrics
from tests.contract.test_exporter_metrics import ENGINE, KAFKA, POSTGRES, REDIS
from tests.documents import read

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "infra" / "prometheus" / "rules").glob("*.yml"))
PROMETHEUS = {"up", "ALERTS"}
PYTHON = {"process_cpu_seconds_total", "process_resident_memory_bytes", "jvm_up"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
LABELS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\b(?:by|on|group_left|group_right|ignoring|without)\s*\([^)]*\)")
WORDS = {"and", "or", "unless", "by", "on", "bool", "offset", "inf", "nan", "e"}
KINDS = {"timeseries", "stat", "table", "row"}


@functools.cache
def declared() -> set[str]:
    """Names as Prometheus stores them."""
    for module in ROOT.glob("services/**/metrics.py"):
        importlib.import_module(".".join(module.relative_to(ROOT).with_suffix("").parts))
    importlib.import_module("services.kit.client")
    importlib.import_module("services.kit.http")
    families = [*REGISTRY.collect(), *Marks().registry.collect(), *jvm_metrics({})]
    return {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ())}


@functools.cache
def recorded() -> dict[str, str]:
    return {rule["record"]: rule["expr"] for rule in every_rule() if "record" in rule}


def every_rule() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in read(path)["groups"] for rule in group["rules"]]


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.stem, panel)
        for path in sorted(FOLDER.glob("*.json"))
        for panel in json.loads(path.read_text("utf-8"))["panels"]
    ]


def asked(expr: str) -> set[str]:
    """Metric names of a query: identifiers that are neither functions, words of the language nor inside a selector."""
    bare = LABELS.sub(" ", expr)
    return {
        match[1]
        for match in re.finditer(r"(?<![\w:.$])([A-Za-z_][\w:]*)(\s*\()?", bare)
        if not match[2] and match[1] not in WORDS
    }


def unknown(expr: str) -> set[str]:
    return asked(expr) - declared() - recorded().keys() - POSTGRES - REDIS - KAFKA - ENGINE - PROMETHEUS - PYTHON


def test_the_dashboards_are_what_their_definitions_say() -> None:
    assert out_of_date() == []


def test_a_dashboard_that_was_edited_by_hand_is_seen(tmp_path: Path) -> None:
    for name, text in documents().items():
        (tmp_path / name).write_text(text.replace("Requests", "Request", 1))
    assert "overview.json" in out_of_date(tmp_path)


def test_every_panel_asks_for_metrics_that_exist() -> None:
    missing = {
        f"{board} / {panel['title']}": names
        for board, panel in panels()
        for target in panel.get("targets", ())
        if (names := unknown(target["expr"]))
    }
    assert missing == {}


def test_every_rule_asks_for_metrics_that_exist() -> None:
    missing = {
        str(rule.get("record", rule.get("alert"))): names for rule in every_rule() if (names := unknown(rule["expr"]))
    }
    assert missing == {}


def complaints(folder: Path, exprs: list[str]) -> str:
    """promtool's, about queries as if they were rules."""
    rules = [{"record": "checked", "labels": {"number": str(n)}, "expr": expr} for n, expr in enumerate(exprs)]
    file = folder / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    words = [shutil.which("promtool") or "promtool", "check", "rules", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_panel_and_every_mark_is_a_query_that_prometheus_can_read(tmp_path: Path) -> None:
    exprs = [target["expr"] for _, panel in panels() for target in panel.get("targets", ())]
    for path in FOLDER.glob("*.json"):
        exprs += [one["expr"] for one in json.loads(path.read_text("utf-8"))["annotations"].get("list", ())]
    assert complaints(tmp_path, [expr.replace("$__rate_interval", "15s") for expr in exprs]) == ""


def test_a_query_that_prometheus_cannot_read_is_seen(tmp_path: Path) -> None:
    assert "parse error" in complaints(tmp_path, ["sum(up", "sum(up)"])


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ("max(payments_unkown_operations)", {"payments_unkown_operations"}),
        ('sum by (job) (rate(http_server_requests[15s])) / on (job) up{job=~"a.*"}', {"http_server_requests"}),
        ("histogram_quantile(0.99, sum by (le) (rate(payments_bank_call_seconds_bucket[15s])))", set()),
    ],
)
def test_a_misspelt_metric_is_seen(expr: str, names: set[str]) -> None:
    assert unknown(expr) == names


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    identifiers: dict[str, set[int]] = {}
    for board, panel in panels():
        assert panel["type"] in KINDS, (board, panel["title"])
        assert panel["id"] not in identifiers.setdefault(board, set()), (board, panel["title"])
        identifiers[board].add(panel["id"])
        if panel["type"] != "row":
            assert re.fullmatch(r"[A-Z0-9].+\.", panel["description"], re.DOTALL), (board, panel["title"])
            assert panel["fieldConfig"]["defaults"]["unit"], (board, panel["title"])
            assert panel["targets"], (board, panel["title"])


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[str, int, int], str] = {}
    for board, panel in panels():
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            assert x < 24
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((board, x, y), panel["title"])
                assert other == panel["title"], (board, other, panel["title"])
