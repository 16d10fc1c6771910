"""Every `python -m ...` on a page names a program that is there, and every path below `.venv/bin` one that set-up brings."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.contract.test_pages import ROOT, pages

MODULE = re.compile(r"\bpython3? -m ([a-z_][\w.]*\w)")
BROUGHT = re.compile(r"\.venv/bin/([\w.-]+)")
FOREIGN = {"json.tool", "pytest"}
OURS_IN_THE_TUTORIAL = "services.dice"


def problems(text: str) -> list[str]:
    """What could not be started."""
    modules = {name for name in MODULE.findall(text) if name not in FOREIGN and name != OURS_IN_THE_TUTORIAL}
    programs = {name for name in BROUGHT.findall(text) if name not in {"python", "pip"}}
    return [f"there is no program {name}" for name in sorted(modules) if not is_program(name)] + [
        f"set-up brings no {name}" for name in sorted(programs - _brought())
    ]


def is_program(module: str) -> bool:
    """A package with a `__main__`, or a module that does something when it is run."""
    path = ROOT.joinpath(*module.split("."))
    if (path / "__main__.py").exists():
        return True
    file = path.with_suffix(".py")
    return file.exists() and '__name__ == "__main__"' in file.read_text("utf-8")


def _brought() -> set[str]:
    return {one.name for one in entry_points(group="console_scripts")} | {"ruff"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_program_of_a_page_is_there(page: Path) -> None:
    assert problems(page.read_text("utf-8")) == []


def test_a_program_that_is_gone_is_seen() -> None:
    text = "`python -m services.payments api`, `.venv/bin/python -m services.gone x`, `python3 -m json.tool`, `.venv/bin/pytest`, `.venv/bin/tox`"
    assert problems(text) == ["there is no program services.gone", "set-up brings no tox"]
    assert problems("`python -m labs.engine.model`") == ["there is no program labs.engine.model"]
