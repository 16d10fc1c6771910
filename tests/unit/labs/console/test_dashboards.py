from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from labs.console.dashboards import FOLDER, Dashboards, NoSuchDashboard, expand, legend
from labs.console.prometheus import POINTS, WINDOWS, Sample, marks_of, window

REPOSITORY = Path(__file__).resolve().parents[4]


def test_every_dashboard_of_the_repository_is_read_and_all_its_panels_are_drawn() -> None:
    read = {one.uid: one for one in Dashboards(REPOSITORY).all()}
    files = sorted((REPOSITORY / FOLDER).glob("*.json"))
    assert len(read) == len(files) > 0
    for file in files:
        document = json.loads(file.read_text())
        panels = [panel for top in document["panels"] for panel in (top, *top.get("panels", []))]
        assert len(read[document["uid"]].drawn()) == len(panels), file


def test_the_overview_comes_first(tmp_path: Path) -> None:
    assert Dashboards(REPOSITORY).all()[0].uid == "overview"
    assert Dashboards(tmp_path).all() == []


def test_a_damaged_file_is_left_out_and_a_changed_one_read_again(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text('{"uid": 7, "title": "x"}')
    boards = Dashboards(tmp_path)
    assert boards.all() == []
    (folder / "a.json").write_text('{"uid": "a", "title": "A", "panels": [{"type": "gauge"}, {"type": "stat"}]}')
    assert [panel.type for panel in boards.get("a").drawn()] == ["stat"]
    with pytest.raises(NoSuchDashboard):
        boards.get("b")


def test_variables_are_replaced() -> None:
    expr = 'sum(rate(x{job=~"$service"}[$__rate_interval])) / y[${__range}]'
    assert expand(expr) == 'sum(rate(x{job=~".+"}[15s])) / y[5m]'


def test_a_legend_is_filled_in_or_made_of_the_labels() -> None:
    labels = {"__name__": "up", "job": "a", "le": "1"}
    assert legend("{{job}} / {{ le }} {{none}}", labels) == "a / 1 "
    assert legend("", labels) == "job=a, le=1"
    assert legend("__auto", {"__name__": "up"}) == "up"


@pytest.mark.parametrize("minutes", WINDOWS)
def test_a_window_keeps_to_the_number_of_points(minutes: int) -> None:
    seen = window(minutes, 1_000_000.7)
    assert (seen.end - seen.start) / seen.step <= POINTS
    assert seen.end <= 1_000_000.7


def test_neighbouring_points_are_one_mark_and_a_gap_makes_two() -> None:
    text = {"metric": {"fault": "kill", "target": "web", "variant": "naive"}, "values": [[1, "1"], [2, "1"], [9, "1"]]}
    marks = marks_of("fault", msgspec.convert(text, Sample), 1.0)
    assert [(mark.text, mark.start, mark.end) for mark in marks] == [
        ("naive: kill web", 1, 2),
        ("naive: kill web", 9, 9),
    ]
