"""Slow files first: in which order workers get them, and what is recorded of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests.ordering import RECORD, ROOT, UNKNOWN_SECONDS, Recorder, file_of, read, slowest_first


@dataclass(frozen=True)
class Item:
    nodeid: str
    marks: frozenset[str] = frozenset()

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def order(items: Iterable[Item], seconds: dict[str, float]) -> list[str]:
    return [item.nodeid for item in slowest_first(cast("list[pytest.Item]", list(items)), seconds)]


def test_files_come_by_falling_seconds_and_keep_their_own_order() -> None:
    items = [Item(name) for name in ("a.py::z", "a.py::b[1]", "b.py::one", "c.py::two", "c.py::one")]
    assert order(items, {"c.py": 90.0, "b.py": 2.5, "gone.py": 500.0}) == [
        "c.py::two", "c.py::one", "b.py::one", "a.py::z", "a.py::b[1]",
    ]  # fmt: skip


def test_files_as_slow_as_each_other_keep_their_order() -> None:
    items = [Item("b.py::x"), Item("a.py::x"), Item("c.py::x")]
    assert order(items, {}) == ["b.py::x", "a.py::x", "c.py::x"]


def test_a_file_that_was_never_measured_is_slow_if_one_of_its_tests_is_marked_so() -> None:
    items = [Item("a.py::x"), Item("new.py::x"), Item("new.py::y", frozenset({"slow"})), Item("b.py::x")]
    seconds = {"a.py": UNKNOWN_SECONDS + 1, "b.py": UNKNOWN_SECONDS - 1}
    assert order(items, seconds) == ["a.py::x", "new.py::x", "new.py::y", "b.py::x"]


def test_a_run_is_recorded_without_what_is_short_or_gone_and_keeps_what_did_not_run(tmp_path: Path) -> None:
    for name in ("slow.py", "quick.py", "other.py"):
        (tmp_path / name).touch()
    path = tmp_path / "durations.json"
    path.write_text(json.dumps({"other.py": 7.0, "gone.py": 60.0, "slow.py": 99.0}))
    recorder = Recorder(path, tmp_path)
    for nodeid, seconds in (("slow.py::a", 1.25), ("slow.py::b[x::y]", 2.0), ("quick.py::a", 0.2)):
        recorder.pytest_runtest_logreport(report(nodeid, seconds))
    recorder.pytest_sessionfinish(pytest.ExitCode.TESTS_FAILED)
    assert read(path)["slow.py"] == 99.0
    recorder.pytest_sessionfinish(pytest.ExitCode.OK)
    assert read(path) == {"other.py": 7.0, "slow.py": 3.2}


def report(nodeid: str, seconds: float) -> pytest.TestReport:
    return pytest.TestReport(nodeid, (nodeid, 0, ""), {}, "passed", None, "call", duration=seconds)


def test_what_is_recorded_are_files_of_this_checkout_with_their_seconds() -> None:
    recorded = read()
    assert recorded, f"{RECORD.name} is empty; run: make test record=1"
    assert any((ROOT / file).is_file() for file in recorded)  # one that was renamed since does no harm
    assert min(recorded.values()) > 0
    assert file_of("tests/unit/test_ordering.py::test_x[a::b]") == "tests/unit/test_ordering.py"


def test_nothing_recorded_is_no_mistake(tmp_path: Path) -> None:
    assert read(tmp_path / "durations.json") == {}


CONFTEST = """
import pytest
from tests.ordering import slowest_first

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        items[:] = slowest_first(items, {"test_y.py": 9.0, "test_z.py": 8.0})
"""
ONE = "from pathlib import Path\n\n\ndef test_it(n):\n    with Path('order').open('a') as file:\n        file.write(Path(__file__).stem + ' ')\n"


@pytest.mark.slow
def test_workers_of_the_makefiles_command_begin_with_the_slowest_files(tmp_path: Path) -> None:
    made = subprocess.run(
        ["make", "-s", "-o", "setup", "test", "PY=echo", "workers=2"],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert made[-1] == "tests"
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name in ("a", "b", "y", "z"):
        many = 4 if name in "ab" else 3  # more tests in a file: what xdist by itself would put first
        text = f"import pytest\n{ONE}".replace("def", f"@pytest.mark.parametrize('n', range({many}))\ndef")
        (tmp_path / f"test_{name}.py").write_text(text)
    subprocess.run(
        [sys.executable, *made[:-1], "-p", "no:cacheprovider", "-p", "xdist.plugin", "."],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    began = (tmp_path / "order").read_text().split()
    assert set(began[:2]) <= {"test_y", "test_z"}
