"""Which runtime runs the lab on this machine, and why. The choice is kept in `.lab/runtime` until `make clean`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from infra.docker import engine
from infra.docker.runtime import DockerRuntime
from infra.native.compose import ComposeFile
from infra.native.environment import given_values
from infra.native.runtime import CHECKOUT, NativeRuntime
from infra.runtime import Progress, Runtime, RuntimeProblem

CHOICE = CHECKOUT / ".lab" / "runtime"
PROFILES = ("week2", "observe")
"""What `make up` starts."""
PULL_SECONDS = 10.0


def choose(file: Path = CHOICE, *, root: Path = CHECKOUT) -> tuple[str, str]:
    """Name and reason: what LAB_RUNTIME asks for (which is not kept), else what was kept, else what this machine can do.

    Raises RuntimeProblem for a wrong LAB_RUNTIME, or when Docker was asked for or kept and is not there.
    """
    asked = given_values(root).get("LAB_RUNTIME", "")
    if asked not in {"", "native", "docker"}:
        raise RuntimeProblem(f"LAB_RUNTIME must be native or docker, not '{asked}'.")
    if asked == "docker":
        engine.require_compose()
    if asked:
        return (asked, "LAB_RUNTIME asks for it")
    if file.exists():
        return _kept(file)
    choice = look(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(": ".join(choice) + "\n")
    return choice


def _kept(file: Path) -> tuple[str, str]:
    name, _, reason = file.read_text().strip().partition(": ")
    if name not in {"native", "docker"}:
        raise RuntimeProblem(f"{file} must begin with native or docker; delete it, and the choice is made anew.")
    if name == "docker":
        try:
            engine.answers()
        except RuntimeProblem as problem:
            raise RuntimeProblem(
                f"{problem} This checkout runs on Docker: start it, or set LAB_RUNTIME=native, or 'make clean' and choose anew."
            ) from None
    return (name, reason)


def look(root: Path = CHECKOUT) -> tuple[str, str]:
    """Docker when its engine answers and every image of the profiles is here or can be pulled; else native. Some seconds."""
    try:
        version = engine.require_compose()
        missing = [image for image in images(root) if not engine.has_image(image)]
        if not missing:
            return ("docker", f"engine {version} answers and has all images")
        if engine.can_pull(missing[0], PULL_SECONDS):
            return ("docker", f"engine {version} answers and reaches its registry")
    except RuntimeProblem as problem:
        return ("native", str(problem).rstrip("."))
    return (
        "native",
        f"Docker's engine answers, but {missing[0]} is not here and was not pulled in {PULL_SECONDS:.0f} s",
    )


def images(root: Path, profiles: Sequence[str] = PROFILES) -> list[str]:
    """What must be here before these profiles can start: their foreign images, and those that ours is built on."""
    stack = ComposeFile(root / "docker-compose.yml").resolve(given_values(root))
    services = [stack.service(name) for profile in profiles for name in stack.in_profile(profile)]
    found = [service.image for service in services if not service.builds]
    dockerfile = root / "infra" / "docker" / "Dockerfile"
    if dockerfile.exists() and any(service.builds for service in services):
        found += _bases(dockerfile.read_text("utf-8"))
    return list(dict.fromkeys(found))


def _bases(dockerfile: str) -> list[str]:
    """Images that FROM names and no earlier stage does."""
    stages: set[str] = set()
    found = []
    for image, stage in re.findall(r"^FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", dockerfile, re.MULTILINE | re.I):
        if image not in stages:
            found.append(image)
        stages.add(stage)
    return found


def open_runtime(project: str, *, edges: bool, progress: Progress | None = None) -> Runtime:
    """The runtime for a project (`dev` is a learner's, `lab` an experiment's). With `edges` clients go through Toxiproxy.

    Raises RuntimeProblem.
    """
    name, reason = choose()
    if progress is not None:
        progress(f"runtime: {name} ({reason})")
    return attach(project, name, edges=edges)


def attach(project: str, runtime: str, *, edges: bool = False, root: Path = CHECKOUT) -> Runtime:
    """A project under the runtime of this name."""
    if runtime == "docker":
        return DockerRuntime(project, edges=edges, root=root)
    return NativeRuntime(project, edges=edges, root=root)
