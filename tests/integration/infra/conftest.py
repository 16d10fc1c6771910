from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.infra.stack import Scratch, write_scratch, xdist_number


@pytest.fixture(autouse=True)
def worker_ports_of_this_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.native.runtime.FIRST_WORKER_PORT", 19100 + 100 * xdist_number())


@pytest.fixture(autouse=True)
def commands_run_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's choice is: a scratch checkout has no images."""
    monkeypatch.setenv("LAB_RUNTIME", "native")


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    """Fails the test when a process of the scratch checkout is left after `down`."""
    root = Path(tempfile.mkdtemp(prefix="lab-scratch-"))
    checkout = write_scratch(root)
    try:
        yield checkout
    finally:
        checkout.clear()
        left = checkout.kill_leftovers()
        shutil.rmtree(root, ignore_errors=True)
    assert left == []
