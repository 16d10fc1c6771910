"""Which runtime runs the lab on this machine, and why. The choice is kept in `.lab/runtime` until `make clean`."""

from __future__ import annotations

import os
from pathlib import Path

from infra.native.runtime import CHECKOUT, NativeRuntime
from infra.runtime import Progress, Runtime, RuntimeProblem

CHOICE = CHECKOUT / ".lab" / "runtime"


def choose(file: Path = CHOICE) -> tuple[str, str]:
    """Name and reason. Raises RuntimeProblem for a wrong LAB_RUNTIME."""
    asked = os.environ.get("LAB_RUNTIME", "")
    if asked == "docker":
        raise RuntimeProblem(
            "LAB_RUNTIME=docker: the Docker runtime is not built yet; unset LAB_RUNTIME or set it to native."
        )
    if asked not in {"", "native"}:
        raise RuntimeProblem(f"LAB_RUNTIME must be native or docker, not '{asked}'.")
    if asked == "native":
        choice = ("native", "LAB_RUNTIME asks for it")
    elif file.exists():
        name, _, reason = file.read_text().strip().partition(": ")
        choice = (name, reason)
    else:
        choice = ("native", "the Docker runtime is not built yet")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(": ".join(choice) + "\n")
    return choice


def open_runtime(project: str, *, edges: bool, progress: Progress | None = None) -> Runtime:
    """The runtime for a project (`dev` is a learner's, `lab` an experiment's). With `edges` clients go through Toxiproxy.

    Raises RuntimeProblem.
    """
    name, reason = choose()
    if progress is not None:
        progress(f"runtime: {name} ({reason})")
    return NativeRuntime(project, edges=edges)
