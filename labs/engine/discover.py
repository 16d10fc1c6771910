"""Finds the labs: each labs/weekNN/dayN_*.py exports LAB."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from labs.engine.model import Lab

ROOT = Path(__file__).parents[2]
MODULE = re.compile(r"^day(\d)_\w+\.py$")


class NoSuchLabError(Exception):
    """Names the labs that there are."""


def modules(root: Path = ROOT) -> list[str]:
    """Module names, by week and day."""
    files = sorted(path for path in (root / "labs").glob("week*/day*_*.py") if MODULE.match(path.name))
    return [f"labs.{path.parent.name}.{path.stem}" for path in files]


def load(module: str) -> Lab:
    """The LAB of a module. Raises NoSuchLabError if it exports none."""
    lab = getattr(importlib.import_module(module), "LAB", None)
    if not isinstance(lab, Lab):
        raise NoSuchLabError(f"{module} exports no LAB")
    return lab


def labs(week: int | None = None, day: int | None = None, *, root: Path = ROOT) -> list[Lab]:
    """All labs, or those of a week, or one, in order. Raises NoSuchLabError if there is none."""
    known = [load(module) for module in modules(root)]
    found = [lab for lab in known if week in (None, lab.week) and day in (None, lab.day)]
    if not found:
        names = ", ".join(lab.name for lab in known) or "none yet"
        raise NoSuchLabError(
            f"there is no lab for week {week}" + (f" day {day}" if day else "") + f"; there are: {names}"
        )
    return found
