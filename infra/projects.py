"""All projects of this checkout at once: what `make down`, `make status` and `make clean` work on."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.native.runtime import CHECKOUT, NativeRuntime
from infra.native.state import remove_tree
from infra.runtime import Progress


def existing(root: Path = CHECKOUT) -> list[str]:
    """Names of the projects that have ever been up here, `dev` first."""
    names = [path.parent.name for path in (root / ".lab" / "projects").glob("*/state.json")]
    return sorted(names, key=lambda name: (name != "dev", name))


def down(progress: Progress, root: Path = CHECKOUT) -> None:
    """Stop every process of every project. Raises RuntimeProblem."""
    for name in existing(root):
        NativeRuntime(name, edges=False, root=root).down(progress=progress)


def remove(name: str, progress: Progress, root: Path = CHECKOUT) -> None:
    """Stop one project and delete all that it holds: data, logs, state. Raises RuntimeProblem."""
    NativeRuntime(name, edges=False, root=root).down(progress=progress)
    project = root / ".lab" / "projects" / name
    for folder in project.glob("data/*"):
        remove_tree(folder)
    shutil.rmtree(project, ignore_errors=True)


def clean(progress: Progress, root: Path = CHECKOUT) -> None:
    """`down`, then delete all data, logs and rendered configuration. Keeps what set-up fetched, and the labs' reports."""
    for name in existing(root):
        remove(name, progress, root)
    lab = root / ".lab"
    shutil.rmtree(lab / "projects", ignore_errors=True)
    shutil.rmtree(lab / "config", ignore_errors=True)
    (lab / "runtime").unlink(missing_ok=True)
    progress("data, logs and rendered configuration are deleted; reports stay in .lab/runs")
