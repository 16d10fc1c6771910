"""The Docker part of .ci/run: skipped with its reason where this machine cannot, failed where our own work does not pass."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = (Path(__file__).resolve().parents[3] / ".ci" / "run").read_text("utf-8")
FUNCTIONS = SCRIPT[SCRIPT.index("# --- Docker ---") : SCRIPT.index("export LAB_RUNTIME=native")]

DOCKER = """#!/bin/bash
case "$*" in
  "version --format"*) echo 20.10 ;;
  version) [ -e engine-runs ] ;;
  "compose version") ;;
  *"config --images") printf 'redis:8.0\\nbackend-lab:dev\\npostgres:17.6\\n' ;;
  *"index .Config.Labels"*) [ "${@: -1}" != redis:8.0 ] || echo redis ;;
  "image inspect"*) ! grep -qx "$3" missing 2>/dev/null ;;
  pull*) echo "no such host" >&2; exit 1 ;;
esac
"""


class Machine:
    """A checkout beside an optional folder of stand-ins, with commands that do what files say."""

    def __init__(self, root: Path) -> None:
        self.checkout = root / "checkout"
        self.here = root / "shared" / "docker"
        self.program(self.checkout / "bin" / "docker", DOCKER)
        self.program(self.checkout / ".venv" / "bin" / "python", "#!/bin/bash\necho '17 passed in 60 s'\n")
        (self.checkout / "infra" / "docker").mkdir(parents=True)
        (self.checkout / "infra" / "docker" / "Dockerfile").write_text("FROM python:3.13-slim AS base\nFROM base\n")

    def program(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, lab: str = "echo lab on $LAB_RUNTIME") -> subprocess.CompletedProcess[str]:
        text = f"""set -euo pipefail
here=../shared/docker engine_started= log=$PWD/log
short_lab() {{ {lab}; }}
{FUNCTIONS}
on_docker
echo "engine_started=$engine_started"
"""
        path = f"{self.checkout / 'bin'}:/usr/bin:/bin"
        return subprocess.run(
            ["bash", "-c", text], cwd=self.checkout, env={"PATH": path}, capture_output=True, text=True, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def engine(machine: Machine) -> Machine:
    """One that starts it and builds all images."""
    machine.program(machine.here / "engine.sh", "#!/bin/bash\ntouch engine-runs\n")
    machine.program(machine.here / "images.sh", '#!/bin/bash\necho "$@" >asked\n')
    return machine


def test_without_an_engine_it_is_skipped_and_not_passed(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0
    assert "DOCKER skipped: no engine answers here" in done.stdout
    assert "passed" not in done.stdout


def test_an_engine_that_cannot_start_is_skipped_with_its_last_words(engine: Machine) -> None:
    engine.program(engine.here / "engine.sh", "#!/bin/bash\necho no room for layers\nexit 1\n")
    done = engine.run()
    assert done.returncode == 0
    assert "DOCKER skipped: the engine cannot start: no room for layers" in done.stdout


def test_base_images_that_cannot_be_built_are_skipped_with_the_reason(engine: Machine) -> None:
    engine.program(engine.here / "images.sh", "#!/bin/bash\necho no mirror\nexit 1\n")
    done = engine.run()
    assert done.returncode == 0
    assert "DOCKER skipped: its base images cannot be built: no mirror" in done.stdout
    assert "engine_started=1" in done.stdout


def test_an_image_that_nobody_gives_is_skipped_with_its_name(engine: Machine) -> None:
    (engine.checkout / "missing").write_text("redis:8.0\n")
    done = engine.run()
    assert done.returncode == 0
    assert "DOCKER skipped: redis:8.0 is not here: no such host" in done.stdout


def test_with_an_engine_it_passes_and_names_the_stand_ins(engine: Machine) -> None:
    done = engine.run()
    assert done.returncode == 0, done.stderr
    assert (engine.checkout / "asked").read_text().split() == ["postgres:17.6", "redis:8.0", "python:3.13-slim"]
    assert "DOCKER engine 20.10; stand-ins, not the official images: redis:8.0" in done.stdout
    assert "lab on docker" in done.stdout
    assert "DOCKER passed, on stand-ins for: redis:8.0" in done.stdout


@pytest.mark.parametrize("outcome", ["echo '1 failed'; exit 1", "echo '3 passed, 1 skipped'"])
def test_a_test_that_fails_or_is_skipped_although_the_engine_answers_fails(engine: Machine, outcome: str) -> None:
    engine.program(engine.checkout / ".venv" / "bin" / "python", f"#!/bin/bash\n{outcome}\n")
    done = engine.run()
    assert done.returncode == 1
    assert "DOCKER passed" not in done.stdout


def test_a_verdict_that_is_no_pass_fails(engine: Machine) -> None:
    done = engine.run(lab="echo VERDICT week02-day2 fail; exit 1")
    assert done.returncode == 1
    assert "DOCKER passed" not in done.stdout
