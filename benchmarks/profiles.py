"""What each week's profile takes: memory, disk, seconds until every service is healthy, with no data and again.

By the command behind `make up` in the benchmarks' own project, so that nobody's data is deleted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures.profiles import ProfileFigures, ProfilesFigures
from benchmarks.rows import middle
from benchmarks.stack import PROJECT, say
from infra import projects
from infra.choose import choose
from infra.cli import observing, profile_services
from infra.docker import engine
from infra.docker.runtime import compose_name
from infra.native.environment import ProjectFile
from infra.native.layout import Layout
from infra.native.runtime import CHECKOUT
from infra.runtime import Runtime, RuntimeProblem

PROFILES = ("week2", "week7", "story")
"""What a learner starts, the last one all systems together; the others belong to one day of a lab, or are started along."""
HOLD_SECONDS = 10
"""After all are healthy, while memory is looked at each second: caches and pools fill."""
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
SIZE = re.compile(r"([\d.]+)\s*([kMGT]?B)")


def main(*, rounds: int, seconds: int) -> ProfilesFigures:
    """Each profile so often, cold and warm. One that does not start here is said; raises RuntimeProblem if none does."""
    del seconds
    figures = ProfilesFigures()
    for name in PROFILES:
        try:
            figures.profiles[name] = measured(name, rounds)
        except RuntimeProblem as problem:
            say(f"{name}: {problem}")
            figures.failures[name] = str(problem)
        finally:
            projects.remove(PROJECT, say)
    if not figures.profiles:
        raise RuntimeProblem("No profile could be started.")
    figures.setup_mib = setup_mib(CHECKOUT) if choose()[0] == "native" else images_mib(list(figures.profiles))
    return figures


def measured(profile: str, rounds: int) -> ProfileFigures:
    """Cold, stopped, warm, stopped, and again; memory and disk from the last warm one and the last cold one."""
    cold, warm, stop = list[float](), list[float](), list[float]()
    disk, memory = 0.0, dict[str, float]()
    for _ in range(rounds):
        projects.remove(PROJECT, say)
        cold.append(up(profile))
        disk = data_mib(projects.current(PROJECT))
        stop.append(down())
        warm.append(up(profile))
        memory = memory_mib(projects.current(PROJECT))
        stop.append(down())
    services = len({*profile_services(profile), *observing()})
    say(
        f"{profile}: cold {middle(cold):.1f} s, warm {middle(warm):.1f} s, {sum(memory.values()):.0f} MiB, {disk:.0f} MiB of data"
    )
    return ProfileFigures(
        services=services, cold_seconds=cold, warm_seconds=warm, stop_seconds=stop, disk_mib=disk, memory_mib=memory
    )


def up(profile: str) -> float:
    """Seconds of the command, to the moment at which it says that all are up. Raises RuntimeProblem."""
    began = time.monotonic()
    starting = subprocess.Popen(
        [sys.executable, "-m", "infra", "up", "--project", PROJECT, "--profile", profile], cwd=CHECKOUT
    )
    try:
        code = starting.wait()
    except KeyboardInterrupt:
        starting.wait()  # it was interrupted as well, and stops what it has started
        raise
    if code != 0:
        raise RuntimeProblem(f"'make up profile={profile}' ended with exit code {code}.")
    return round(time.monotonic() - began, 2)


def down() -> float:
    """Seconds until nothing of the project runs."""
    began = time.monotonic()
    for runtime in projects.runtimes(PROJECT):
        runtime.down()
    return round(time.monotonic() - began, 2)


def memory_mib(runtime: Runtime) -> dict[str, float]:
    """The most of each service within HOLD_SECONDS. Empty where the engine does not tell."""
    most: dict[str, int] = {}
    for _ in range(HOLD_SECONDS):
        time.sleep(1)
        for row in runtime.status():
            if row.memory_bytes is not None:
                most[row.service] = max(most.get(row.service, 0), row.memory_bytes)
    return {name: round(size / 2**20, 1) for name, size in most.items()}


def data_mib(runtime: Runtime) -> float:
    """What its servers have written."""
    if runtime.name == "docker":
        said = engine.run(["docker", "system", "df", "--verbose", "--format", "{{json .Volumes}}"], timeout=120.0)
        return volumes_mib(json.loads(said), compose_name(CHECKOUT, PROJECT))
    return disk_mib(*(CHECKOUT / ".lab" / "projects" / PROJECT / "data").glob("*"))


def volumes_mib(volumes: Sequence[Mapping[str, str]], project: str) -> float:
    """Of a compose project, from what `docker system df` says."""
    ours = (one["Size"] for one in volumes if one["Name"].startswith(f"{project}_"))
    return round(sum(bytes_of(size) for size in ours) / 2**20, 1)


def bytes_of(text: str) -> float:
    """`1.5GB`, as Docker writes it, in powers of ten. Raises ValueError."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size of Docker's")
    return float(match[1]) * UNITS[match[2]]


def setup_mib(root: Path) -> dict[str, float]:
    """What set-up fetched and built: libraries, and the servers that no package has."""
    lab = root / ".lab"
    found = {
        "libraries": disk_mib(root / ".venv"),
        "servers' jars and programs": disk_mib(*(lab / name for name in ("jars", "bin", "cache"))),
    }
    return {kind: size for kind, size in found.items() if size}


def images_mib(profiles: Sequence[str]) -> dict[str, float]:
    """Of the profiles' images, as the engine says: layers that two of them share are counted twice."""
    wanted = [image for profile in profiles for image in all_images(profile)]
    sizes = engine.run(["docker", "image", "inspect", "--format", "{{.Size}}", *dict.fromkeys(wanted)]).split()
    return {"images": round(sum(int(size) for size in sizes) / 2**20, 1)}


def all_images(profile: str) -> list[str]:
    """Foreign ones and ours."""
    stack = ProjectFile(Layout(CHECKOUT, CHECKOUT / ".lab", PROJECT)).stack()
    return [stack.service(name).image for name in stack.with_dependencies([*profile_services(profile), *observing()])]


def disk_mib(*folders: Path) -> float:
    """What they take together: hard links counted once, links not followed but at the top. What vanishes meanwhile does not count."""
    blocks: dict[tuple[int, int], int] = {}
    for folder in folders:
        for path in folder.resolve().rglob("*"):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            blocks[found.st_dev, found.st_ino] = found.st_blocks
    return round(sum(blocks.values()) * 512 / 2**20, 1)
