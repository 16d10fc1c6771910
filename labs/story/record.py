"""What the console shows of a story: one file, replaced after each step, so that whoever reads it sees a whole one."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

SCHEMA = 1
LARGEST_BYTES = 256 * 1024


class Station(msgspec.Struct):
    """`state`: waiting, now, done or stopped. `seconds` from the checkout's first byte; None until it is done.

    `where` names whose record is looked at.
    """

    name: str
    title: str
    where: str
    state: str = "waiting"
    says: str = ""
    seconds: float | None = None


class Story(msgspec.Struct):
    """`state`: running, done or stopped; then `problem` is the sentence that names the station. Trace ids are "" until known."""

    id: str
    sku: str
    quantity: int
    started_at: datetime
    stations: list[Station]
    state: str = "running"
    product: str = ""
    payment: str = ""
    trace_id: str = ""
    job_trace_id: str = ""
    problem: str = ""
    schema: int = SCHEMA


_decoder = msgspec.json.Decoder(Story)


def path_of(root: Path) -> Path:
    """In a checkout."""
    return root / ".lab" / "story" / "latest.json"


def write(root: Path, story: Story) -> None:
    """Replace the file."""
    path = path_of(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(story))
    part.replace(path)


def read(root: Path) -> Story | None:
    """The newest story; None if there was none, or the file is of another version or no story at all."""
    path = path_of(root)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            return None
        found = _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.schema == SCHEMA else None


def silent_seconds(root: Path) -> float:
    """Since the file was last replaced; 0 without one."""
    try:
        return max(0.0, time.time() - path_of(root).stat().st_mtime)
    except OSError:
        return 0.0


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
