"""Locks between processes and threads (flock(2)); they end with their holder, so a crash leaves none behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.runtime import RuntimeProblem


@contextmanager
def locked(
    path: Path, what: str, *, timeout: float = 180.0, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold `path` exclusively; `what` names it in sentences. Raises RuntimeProblem after `timeout` seconds of waiting.

    Not re-entrant. Each call opens the file anew, so threads of one process exclude each other too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, what, timeout, waiting)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, what: str, timeout: float, waiting: Callable[[str], None] | None) -> None:
    deadline = time.monotonic() + timeout
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            if time.monotonic() > deadline:
                raise RuntimeProblem(
                    f"Another command (pid {holder}) has been working on {what} for {timeout:.0f} s; try again later."
                ) from None
            if waiting is not None and not told:
                waiting(f"another command (pid {holder}) is working on {what}; waiting for it")
                told = True
            time.sleep(0.02)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return
