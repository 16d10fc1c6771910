from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "infra" / "setup.sh"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout without anything installed, in a PATH without apt."""
    for folder in ("kafka", "search", "connect"):
        (tmp_path / "infra" / folder).mkdir(parents=True)
    for name in (
        "docker-compose.yml",
        "requirements.lock",
        "infra/setup.sh",
        "infra/kafka/pom.xml",
        "infra/search/pom.xml",
        "infra/connect/pom.xml",
    ):
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in (
        "bash",
        "sed",
        "head",
        "sha256sum",
        "cut",
        "cat",
        "uname",
        "mkdir",
        "flock",
        "df",
        "awk",
        "ls",
        "sort",
        "dirname",
        "id",
        "python3",
    ):
        found = shutil.which(name)
        assert found is not None, name
        (tools / name).symlink_to(os.path.realpath(found))
    return tmp_path


def run(checkout: Path, path: str, **variables: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", str(checkout / "infra" / "setup.sh")]
    env = {"PATH": path, **variables}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def with_packages(bare: Path) -> Path:
    """The same with a finished .venv, whose Python would choose Docker."""
    python = f"#!{bare}/bin/bash\n[ \"$*\" != '-m infra runtime' ] || echo 'docker: it has all images'\n"
    write_program(bare / ".venv" / "bin" / "python", python)
    lock = subprocess.run(["sha256sum", "requirements.lock"], cwd=bare, capture_output=True, text=True, check=True)
    (bare / ".venv" / ".requirements").write_text(lock.stdout)
    (bare / "bin" / "python3").unlink()
    (bare / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    (bare / "bin" / "tail").symlink_to(os.path.realpath(shutil.which("tail") or ""))
    return bare


def test_without_apt_it_says_what_is_missing_and_installs_nothing(bare: Path) -> None:
    done = run(bare, str(bare / "bin"))
    assert done.returncode == 1
    assert "has no apt" in done.stderr
    assert "redis-server" in done.stderr
    assert not (bare / ".venv").exists()


def test_without_root_or_sudo_it_gives_the_command_to_run_as_root(bare: Path) -> None:
    tools = bare / "bin"
    for name, text in {"apt-get": "exit 9", "id": "echo 1000"}.items():
        (tools / name).unlink(missing_ok=True)
        (tools / name).write_text(f"#!{tools / 'bash'}\n{text}\n")
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IEXEC)
    done = run(bare, str(tools))
    assert done.returncode == 1
    assert re.search(r"needs root or sudo: .*Run 'apt-get install .*redis-server.*' as root", done.stderr)


@pytest.mark.parametrize("place", ["environment", ".env", ".lab/runtime"])
def test_with_docker_nothing_but_the_python_packages_is_needed(with_packages: Path, place: str) -> None:
    said = {"LAB_RUNTIME": "docker"} if place == "environment" else {}
    if place == ".env":
        (with_packages / ".env").write_text('POSTGRES_PORT=1\nLAB_RUNTIME="docker" # ours\n')
    elif place == ".lab/runtime":
        (with_packages / ".lab").mkdir()
        (with_packages / ".lab" / "runtime").write_text("docker: it has all images\n")
    done = run(with_packages, str(with_packages / "bin"), **said)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_an_engine_answers_the_choice_is_made_before_anything_native_is_fetched(with_packages: Path) -> None:
    write_program(with_packages / "bin" / "docker", f"#!{with_packages}/bin/bash\nexit 0\n")
    done = run(with_packages, str(with_packages / "bin"))
    assert done.returncode == 0, done.stderr
    assert "runtime: docker: it has all images" in done.stdout
    assert not (with_packages / ".lab" / "jars").exists()


def test_an_engine_that_does_not_answer_is_no_docker(with_packages: Path) -> None:
    write_program(with_packages / "bin" / "docker", f"#!{with_packages}/bin/bash\nexit 1\n")
    done = run(with_packages, str(with_packages / "bin"))
    assert done.returncode == 1
    assert "has no apt" in done.stderr


def test_a_file_without_versions_is_refused(bare: Path) -> None:
    (bare / "docker-compose.yml").write_text("services: {}\n")
    done = run(bare, str(bare / "bin"))
    assert done.returncode == 1
    assert "names no version" in done.stderr


def test_it_is_silent_when_all_is_there() -> None:
    if not (ROOT / ".lab" / "setup" / "stamp").exists():
        pytest.skip("set-up has not run in this checkout")
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False, timeout=30)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_failing_command_inside_a_step_fails_the_step(tmp_path: Path) -> None:
    text = SCRIPT.read_text()
    functions = text[text.index("declare -A jobs=()") : text.index("interrupted_children() {")]
    script = tmp_path / "try.sh"
    script.write_text(
        f"""set -euo pipefail
work={tmp_path}
say() {{ echo "$*"; }}
fail() {{ echo "$*" >&2; exit 1; }}
interrupted_children() {{ :; }}
{functions}
broken() {{ false; echo "went on"; }}
step try "a step" broken
wait_for try
echo "not reached"
"""
    )
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "Set-up stopped at 'try'" in done.stderr
    assert "not reached" not in done.stdout
