from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from labs.engine.display import EVENT_MARK, PROGRESS_VARIABLE, EventDisplay, PlainDisplay, Tick, open_display
from labs.engine.model import Phase


def test_a_program_that_shows_progress_gets_every_tick_as_an_event(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PROGRESS_VARIABLE, "events")
    output = io.StringIO()
    display = open_display(Console(file=output))
    assert isinstance(display, EventDisplay)
    display.begin("naive", Phase.INJECT, 40)
    display.tick(3.5, Tick(rate=50, errors=0.25, p99_ms=1100, faults=("kill sut",)))
    display.end(40, Tick(rate=48))
    events = [json.loads(line.removeprefix(EVENT_MARK)) for line in capsys.readouterr().out.split("\n") if line]
    assert [event["elapsed"] for event in events] == [0, 3.5]
    assert (events[1]["who"], events[1]["phase"], events[1]["seconds"]) == ("naive", "inject", 40)
    assert events[1]["faults"] == ["kill sut"]
    assert output.getvalue().count("\n") == 1


def test_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    assert type(open_display(Console(file=io.StringIO()))) is PlainDisplay
