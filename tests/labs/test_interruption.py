"""Ctrl-C and SIGTERM in the middle of a fault."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_takes_the_fault_back_stops_everything_and_exits_130(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "tests.labs.interrupted_lab", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(tmp_path / "world" / "fault", process)
        generators = psutil.Process(process.pid).children()
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "Interrupted" in output
    assert not (tmp_path / "world" / "fault").exists()
    assert generators
    assert not any(generator.is_running() for generator in generators)
    calls = json.loads((tmp_path / "calls.json").read_text())
    assert calls[-1] == "down"
    assert "forget naive" in calls
