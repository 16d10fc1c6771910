"""The shapes that the index has had, one file each: `v1.json` is settings and mapping of version 1.

A field may be added to the newest file (the engine adds it in place); whatever else changes is a new file and a reindex.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent
_FILE = re.compile(r"v([1-9][0-9]{0,3})\.json")


class UnknownMapping(Exception):
    """There is no file of that version."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A version's file. `fields`: the names at the top of its documents."""

    version: int
    body: dict[str, Any]

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(self.body["mappings"]["properties"])


def versions() -> list[int]:
    """Ascending."""
    return sorted(int(found[1]) for path in FOLDER.iterdir() if (found := _FILE.fullmatch(path.name)))


def load(version: int | None = None) -> Mapping:
    """A version, or the newest. Raises UnknownMapping."""
    known = versions()
    wanted = known[-1] if version is None and known else version
    if wanted not in known:
        there = ", ".join(map(str, known)) or "none"
        raise UnknownMapping(f"There is no mapping of version {wanted}; there are: {there}.")
    return Mapping(wanted, msgspec.json.decode((FOLDER / f"v{wanted}.json").read_bytes()))
