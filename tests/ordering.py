"""The files that take longest come first, so that with several workers none of them idles at the end.

`durations.json` holds the seconds of each file in one whole run; `make test record=1` writes it anew. Only the order of
files changes, never that within a file, and only for xdist's workers: each of them sorts alike.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path(__file__).with_name("durations.json")
LEAST_SECONDS = 1.0
"""Shorter files are not kept: they fill the gaps at the end, in whatever order."""
UNKNOWN_SECONDS = 15.0
"""Assumed of a file that is marked slow or integration and was never measured."""


def read(path: Path = RECORD) -> dict[str, float]:
    """Seconds by file, relative to the root; empty where nothing was recorded."""
    if not path.exists():
        return {}
    return {str(file): float(seconds) for file, seconds in json.loads(path.read_text()).items()}


def file_of(nodeid: str) -> str:
    """`tests/unit/test_a.py` of one of its tests."""
    return nodeid.partition("::")[0]


def slowest_first(items: Sequence[pytest.Item], seconds: Mapping[str, float]) -> list[pytest.Item]:
    """Whole files by falling seconds; of equals, and within a file, the order stays."""
    files = [(file, list(own)) for file, own in groupby(items, key=lambda item: file_of(item.nodeid))]
    files.sort(key=lambda one: -_expected(one[0], one[1], seconds))
    return [item for _, own in files for item in own]


def _expected(file: str, items: Sequence[pytest.Item], seconds: Mapping[str, float]) -> float:
    marked = any(item.get_closest_marker(name) for item in items for name in ("slow", "integration"))
    return seconds.get(file, UNKNOWN_SECONDS if marked else 0.0)


class Recorder:
    """Sums up what each file took, in the process that all reports come to."""

    def __init__(self, path: Path = RECORD, root: Path = ROOT) -> None:
        self._path, self._root = path, root
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Set-up, call and tear-down each report; a session's servers count for the file that asked for them first."""
        self._seconds[file_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Only of a run without failures: a failed file may have ended early."""
        if exitstatus == pytest.ExitCode.OK:
            self.write()

    def write(self) -> None:
        """What was measured replaces what was known of the same files; files that are gone go."""
        known = {**read(self._path), **{file: round(seconds, 1) for file, seconds in self._seconds.items()}}
        kept = {
            file: known[file] for file in sorted(known) if known[file] >= LEAST_SECONDS and (self._root / file).exists()
        }
        self._path.write_text(json.dumps(kept, indent=1) + "\n")
