"""How many processes `-n auto` starts: the tests wait for a third of their time, so one more than there are cores, if memory allows."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

MOST = 8
"""With more of them the longest files are waited for, and each starts servers of its own."""
MIB_EACH = 2560
"""Its Postgres, Kafka, Connect and two search engines of 512 MiB of heap, or the stack of a whole week, and our own processes."""


def how_many(cores: int, available_mib: int) -> int:
    """At least one, at most MOST."""
    return max(1, min(cores + 1, available_mib // MIB_EACH, MOST))


def of_this_machine(arguments: Sequence[str] = ()) -> int:
    """For the unit and contract tests alone memory does not count: they start no server."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    light = bool(arguments) and all(each.startswith(("tests/unit", "tests/contract")) for each in arguments)
    available = MOST * MIB_EACH if light else psutil.virtual_memory().available // 1024**2
    return how_many(cores, available)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return of_this_machine(config.args)
