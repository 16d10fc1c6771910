from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "infra" / "setup.sh"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout without anything installed, in a PATH without apt."""
    (tmp_path / "infra" / "kafka").mkdir(parents=True)
    for name in ("docker-compose.yml", "requirements.lock", "infra/setup.sh", "infra/kafka/pom.xml"):
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


def run(checkout: Path, path: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", str(checkout / "infra" / "setup.sh")]
    return subprocess.run(words, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60)


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
