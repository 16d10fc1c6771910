"""One lab at a time in a checkout."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.runtime import RuntimeProblem


@contextmanager
def one_lab(root: Path, what: str) -> Iterator[None]:
    """Hold `.lab/lab.lock`. Raises RuntimeProblem, saying who holds it. The kernel frees it when the process ends."""
    folder = root / ".lab"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lab.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another lab"
            raise RuntimeProblem(
                f"{holder} is running in this checkout; wait for it, or stop it with Ctrl-C."
            ) from error
        file.truncate(0)
        file.write(f"{what} (pid {os.getpid()})")
        file.flush()
        yield
