"""What dashboards are told of a running lab."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import generate_latest

from infra.runtime import Runtime
from labs.engine.annotate import MarkingDisplay, Marks, told_to_prometheus
from labs.engine.display import Tick
from labs.engine.model import Phase


@dataclass
class Silent:
    said: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, who: str, phase: Phase, seconds: float | None) -> None:
        self.said.append(f"{who} {phase.value}")

    def tick(self, elapsed: float, tick: Tick) -> None:
        self.said.append(f"{elapsed:g}")

    def end(self, elapsed: float, tick: Tick) -> None:
        self.said.append("end")


@dataclass
class NamedRuntime:
    name: str = "native"
    project: str = "lab"


def lines(marks: Marks, value: str) -> set[str]:
    text = generate_latest(marks.registry).decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if line.endswith(f" {value}") and '"x"' in line}


def test_one_phase_is_marked_at_a_time_and_none_after_the_last() -> None:
    marks = Marks()
    display = MarkingDisplay(Silent(), marks, "x")
    display.begin("naive", Phase.BASELINE, 10.0)
    assert lines(marks, "1.0") == {'lab_phase{lab="x",phase="baseline",variant="naive"}'}
    display.end(10.0, Tick())
    display.begin("naive", Phase.INJECT, 10.0)
    assert lines(marks, "1.0") == {'lab_phase{lab="x",phase="inject",variant="naive"}'}
    display.end(10.0, Tick())
    assert lines(marks, "1.0") == set()
    assert len(lines(marks, "0.0")) == 2


def test_a_fault_is_marked_until_it_is_healed() -> None:
    marks = Marks()
    display = MarkingDisplay(Silent(), marks, "x")
    display.begin("naive", Phase.INJECT, 10.0)
    display.tick(1.0, Tick(faults=("kill payments-api", "pause sim-bank")))
    display.tick(2.0, Tick(faults=("pause sim-bank",)))
    killed = 'lab_fault_active{fault="kill",lab="x",target="payments-api",variant="naive"}'
    paused = 'lab_fault_active{fault="pause",lab="x",target="sim-bank",variant="naive"}'
    assert killed in lines(marks, "0.0")
    assert paused in lines(marks, "1.0")
    display.tick(3.0, Tick())
    assert paused in lines(marks, "0.0")


def test_what_is_shown_stays_as_it_was() -> None:
    shown = Silent()
    display = MarkingDisplay(shown, Marks(), "x")
    display.say("hello")
    display.begin("naive", Phase.INJECT, None)
    display.tick(1.0, Tick())
    display.end(2.0, Tick())
    assert shown.said == ["hello", "naive inject", "1", "end"]


@pytest.mark.slow
def test_prometheus_is_told_where_the_marks_are_and_not_any_more_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / ".lab" / "config" / "native-lab" / "prometheus" / "targets"
    folder.mkdir(parents=True)
    marks = Marks()
    with told_to_prometheus(marks, cast("Runtime", NamedRuntime()), tmp_path) as address:
        assert json.loads((folder / "lab.json").read_text())[0]["targets"] == [address]
        assert address.startswith("127.0.0.1:")
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            assert b"lab_phase" in answer.read()
    assert list(folder.iterdir()) == []
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=5)


def test_without_prometheus_there_are_no_marks_and_no_trouble(tmp_path: Path) -> None:
    with told_to_prometheus(Marks(), cast("Runtime", NamedRuntime()), tmp_path) as address:
        assert address == ""
