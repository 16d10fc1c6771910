"""Asks for a prediction, and never waits for long."""

from __future__ import annotations

import select
import sys
import threading
import time
from typing import TextIO

from rich.console import Console

PATIENCE_SECONDS = 60.0
LONGEST = 500


def prediction(
    console: Console,
    given: str | None,
    *,
    stop: threading.Event | None = None,
    source: TextIO | None = None,
    patience: float = PATIENCE_SECONDS,
) -> str | None:
    """The given one; or what is typed within a minute, if this is a terminal; or none, also when `stop` is set."""
    stream = sys.stdin if source is None else source
    if given is not None:
        return given.strip()[:LONGEST] or None
    if not console.is_terminal or not stream.isatty():
        return None
    console.print(f"Your prediction (Enter to skip, {patience:.0f} s to think): ", end="")
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not (stop is not None and stop.is_set()):
        if select.select([stream], [], [], 0.1)[0]:
            return stream.readline().strip()[:LONGEST] or None
    console.print("\nNo prediction then.")
    return None
