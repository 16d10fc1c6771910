"""All projects of this checkout at once: what `make down`, `make status` and `make clean` work on."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.choose import attach
from infra.docker import engine
from infra.docker.runtime import DockerRuntime
from infra.docker.state import DockerStateFile
from infra.native.runtime import CHECKOUT
from infra.native.state import remove_tree
from infra.runtime import Progress, Runtime, RuntimeProblem

_STATE_FILES = {"state.json": "native", "docker.json": "docker"}


def existing(root: Path = CHECKOUT) -> list[str]:
    """Names of the projects that have ever been up here, `dev` first."""
    names = {path.parent.name for file in _STATE_FILES for path in (root / ".lab" / "projects").glob(f"*/{file}")}
    return sorted(names, key=lambda name: (name != "dev", name))


def runtimes(name: str, root: Path = CHECKOUT) -> list[Runtime]:
    """A project under each runtime that it has been up with; the one whose processes were started last comes first."""
    home = root / ".lab" / "projects" / name
    files = [home / file for file in _STATE_FILES if (home / file).exists()]
    newest = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
    return [attach(name, _STATE_FILES[file.name], root=root) for file in newest]


def at_work(name: str, root: Path = CHECKOUT) -> list[Runtime]:
    """Those of `runtimes` that may have something running: not a Docker that holds nothing and whose engine is not there."""
    state = DockerStateFile(root / ".lab" / "projects" / name / "docker.json", name)
    return [one for one in runtimes(name, root) if one.name != "docker" or state.read().services or _engine_answers()]


def _engine_answers() -> bool:
    try:
        engine.answers()
    except RuntimeProblem:
        return False
    return True


def current(name: str, root: Path = CHECKOUT) -> Runtime:
    """The project as it was last up, for looking and breaking. One that has never been up is native and empty."""
    return next(iter(at_work(name, root)), None) or attach(name, "native", root=root)


def down(progress: Progress, root: Path = CHECKOUT) -> None:
    """Stop every process of every project, also when one of them cannot be stopped. Raises RuntimeProblem of the first."""
    problems = []
    for name in existing(root):
        for runtime in at_work(name, root):
            try:
                runtime.down(progress=progress)
            except RuntimeProblem as problem:
                problems.append(problem)
    if problems:
        raise problems[0]


def remove(name: str, progress: Progress, root: Path = CHECKOUT) -> None:
    """Stop one project and delete all that it holds: data, logs, state. Raises RuntimeProblem."""
    for runtime in runtimes(name, root):
        runtime.down(progress=progress)
        if isinstance(runtime, DockerRuntime):
            runtime.remove()
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
