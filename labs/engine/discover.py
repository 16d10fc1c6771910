"""Finds the labs: each labs/weekNN/dayN_*.py exports LAB. labs/template is asked for by name and belongs to no week."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from labs.engine.model import Lab

ROOT = Path(__file__).parents[2]
PLACE = re.compile(r"(?:week(\d+)|template)\.day(\d)_")
MODULE = re.compile(r"^day(\d)_\w+\.py$")
TEMPLATE = 0
"""The week of labs/template: what a new lab is copied from."""


class NoSuchLabError(Exception):
    """Names the labs that there are."""


def modules(root: Path = ROOT) -> list[str]:
    """Module names of the course, by week and day."""
    return _modules(root, "week*")


def _modules(root: Path, folder: str) -> list[str]:
    files = sorted(path for path in (root / "labs").glob(f"{folder}/day*_*.py") if MODULE.match(path.name))
    return [f"labs.{path.parent.name}.{path.stem}" for path in files]


def folder_of(week: int) -> str:
    """Where a week's modules and page are, below labs."""
    return "template" if week == TEMPLATE else f"week{week:02d}"


def load(module: str) -> Lab:
    """The LAB of a module. Raises NoSuchLabError if it exports none."""
    lab = getattr(importlib.import_module(module), "LAB", None)
    if not isinstance(lab, Lab):
        raise NoSuchLabError(f"{module} exports no LAB")
    return lab


def _place(module: str) -> tuple[int, int]:
    """Week and day, from the name: a mistake in one day's module does not stop the others."""
    match = PLACE.search(module)
    assert match is not None
    return int(match[1] or TEMPLATE), int(match[2])


def labs(week: int | None = None, day: int | None = None, *, root: Path = ROOT) -> list[Lab]:
    """All labs, or those of a week, or one, in order. Raises NoSuchLabError if there is none."""
    names = _modules(root, folder_of(TEMPLATE)) if week == TEMPLATE else modules(root)
    known = {module: _place(module) for module in names}
    found = [load(module) for module, (w, d) in known.items() if week in (None, w) and day in (None, d)]
    if not found:
        there = ", ".join(f"week{w:02d}-day{d}" for w, d in known.values()) or "none yet"
        raise NoSuchLabError(
            f"there is no lab for week {week}" + (f" day {day}" if day else "") + f"; there are: {there}"
        )
    return found
