from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime import RuntimeProblem
from labs.faults.full_disk import require_mount_right
from tests.integration.chaos.stack import COMPOSE, SERVER
from tests.integration.infra.stack import Scratch, free_low_ports, xdist_number


@pytest.fixture(scope="module")
def checkout() -> Iterator[Scratch]:
    """A scratch checkout whose stack runs with its edges; fails when a process of it is left after `down`."""
    root = Path(tempfile.mkdtemp(prefix="lab-chaos-"))
    root.chmod(0o755)
    ports = free_low_ports(["web", "back", "edge", "toxiproxy", "redis"])
    (root / "docker-compose.yml").write_text(COMPOSE % ports)
    (root / "server.py").write_text(SERVER)
    scratch = Scratch(root, ports)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.native.runtime.FIRST_WORKER_PORT", 19500 + 50 * xdist_number())
        try:
            scratch.runtime(edges=True).up(["web", "toxiproxy", "redis"])
            yield scratch
        finally:
            scratch.clear()
            left = scratch.kill_leftovers()
            shutil.rmtree(root, ignore_errors=True)
    assert left == []


@pytest.fixture
def may_mount(tmp_path: Path) -> None:
    """Skips, with the reason, where a tmpfs cannot be mounted."""
    try:
        require_mount_right(tmp_path / "volume")
    except RuntimeProblem as problem:
        pytest.skip(str(problem))
