"""The repository's YAML, by the parser in C: docker-compose.yml takes Python's own a quarter of a second, in each process of a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from yaml import CSafeLoader

ROOT = Path(__file__).resolve().parent.parent


def read(path: Path) -> Any:
    """Whatever the file holds."""
    return yaml.load(path.read_text("utf-8"), Loader=CSafeLoader)


@cache
def compose() -> dict[str, Any]:
    """The repository's docker-compose.yml, as it stands there; copy what you change."""
    document: dict[str, Any] = read(ROOT / "docker-compose.yml")
    return document
