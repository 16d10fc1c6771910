from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from loadtests.pacing import schedule


def test_a_rate_that_grows_makes_the_gaps_shorter_from_then_on() -> None:
    times = 1.0
    arrivals = schedule(50, 7, lambda: times)
    calm = list(islice(arrivals, 500))
    times = 10.0
    busy = list(islice(arrivals, 5000))
    assert calm == list(islice(schedule(50, 7), 500))
    assert (busy[-1] - busy[0]) / 4999 == pytest.approx(1 / 500, rel=0.05)


SAID = {"8": 8.0, "0.5": 0.5, "0": 0.01, "-3": 0.01, "nonsense": 1.0, "": 1.0}


@pytest.mark.slow
def test_the_number_in_the_file_counts_if_it_is_one(tmp_path: Path) -> None:
    for number, text in enumerate(SAID):
        (tmp_path / str(number)).write_text(text)
    program = (
        "import sys; from pathlib import Path; from loadtests.open_load import Times;"
        " print(*[Times(Path(sys.argv[1]) / str(number))() for number in range(int(sys.argv[2]))])"
    )
    assert dict(zip(SAID, asked(program, tmp_path, str(len(SAID))), strict=True)) == SAID


@pytest.mark.slow
def test_a_file_that_changes_is_read_again_and_one_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; import loadtests.open_load as o; o.LOOK_SECONDS = 0;"
        " file = Path(sys.argv[1]); times = o.Times(file); assert times() == 8;"
        " file.write_text('3'); os.utime(file, ns=(1, 1)); assert times() == 3;"
        " file.unlink(); print(times()); assert o.Times(None)() == 1"
    )
    file = tmp_path / "times"
    file.write_text("8")
    assert asked(program, file) == [3.0]


def asked(program: str, *arguments: str | Path) -> list[float]:
    """The numbers it prints, in a process of its own: importing Locust would patch this one, and takes a second."""
    root = Path(__file__).resolve().parents[3]
    argv = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(argv, cwd=root, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]
