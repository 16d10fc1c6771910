"""The tutorial *add a service* is followed to the letter, in a copy of the checkout: its files, its tests, its rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.test_compose_file import problems
from tests.contract.test_hardened_containers import problems as may_more
from tests.documents import read

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FILE = re.compile(r"`((?:services|tests)/[\w/]+\.py)`:\n\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PORT = re.compile(r"`services/contracts/ports\.py`, after `(\w+)`:\n\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROCESS = re.compile(r"`docker-compose\.yml` after `([\w-]+)`.*?```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
COPIED = ("services", "tests", "infra", "labs", "loadtests", "pyproject.toml", "docker-compose.yml", "Makefile", "docs")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the tutorial has been followed up to `make up`."""
    root = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    for path, text in FILE.findall(PAGE):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    for folder in ("tests/unit/dice", "tests/integration/dice"):
        (root / folder / "__init__.py").touch()
    _after(root / "services/contracts/ports.py", *PORT.findall(PAGE)[0], end="\n")
    _after(root / "docker-compose.yml", *PROCESS.findall(PAGE)[0], end="\n\n")
    return root


def _after(path: Path, name: str, addition: str, *, end: str) -> None:
    """Behind the entry of this name."""
    text = path.read_text("utf-8")
    start = re.search(rf'^ *"?{name}"?:', text, re.MULTILINE)
    assert start is not None
    place = text.index(end, start.start()) + len(end)
    path.write_text(text[:place] + addition + ("\n" if end == "\n\n" else "") + text[place:], "utf-8")


def done(root: Path, *words: str) -> str:
    """Its output; it must end with 0."""
    words = (sys.executable, "-m", *words)
    ended = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_every_file_of_the_tutorial_is_found_on_the_page(checkout: Path) -> None:
    assert {path for path, _ in FILE.findall(PAGE)} == {
        *(
            f"services/dice/{name}.py"
            for name in ("__init__", "__main__", "api", "app", "domain", "metrics", "settings")
        ),
        "tests/unit/dice/test_domain.py",
        "tests/integration/dice/test_process.py",
    }
    assert (checkout / "services/dice/__main__.py").exists()


def test_its_own_tests_pass(checkout: Path) -> None:
    told = done(checkout, "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/dice", "tests/integration/dice")
    assert re.search(r"^9 passed", told, re.MULTILINE), told


def test_the_linters_have_nothing_to_say(checkout: Path) -> None:
    written = sorted({path for path, _ in FILE.findall(PAGE)})
    done(checkout, "ruff", "check", "--no-cache", *written)
    done(checkout, "ruff", "format", "--no-cache", "--check", *written)


def test_it_keeps_the_rules_of_the_house(checkout: Path) -> None:
    compose = read(checkout / "docker-compose.yml")
    assert "dice-api" in compose["services"]
    assert problems(compose["services"]) + may_more(compose["services"]) == []
    done(checkout, "infra.docker.defaults")
    kept = [f"tests/contract/test_{name}.py" for name in ("ports", "imports", "compose_defaults")]
    done(checkout, "pytest", "-q", "-p", "no:cacheprovider", *kept)
