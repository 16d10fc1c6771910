"""The machine, its servers and the checkout: what a figure means nothing without. Nothing that names a person or a host."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import psutil

from benchmarks.records import Around, Machine
from infra.docker import engine
from infra.native.compose import ComposeFile
from infra.native.environment import given_values
from infra.native.recipes.postgres import find_binaries
from labs.engine import folder

WRITES, WRITTEN = 200, bytes(8192)
GIT_SECONDS = 10.0
NUMBER = re.compile(r"\d+(?:\.\d+)+")
SERVERS = {
    "postgres": "Postgres",
    "redis": "Redis",
    "kafka": "Kafka",
    "connect": "Debezium",
    "elasticsearch": "search engine",
    "opensearch": "search engine",
}
"""By the last part of an image's name. The others do nothing that is measured."""
SEARCH_ENGINES = ("elasticsearch", "opensearch")


def machine(data: Path) -> Machine:
    """This one; `data` is a folder on the disk that matters."""
    cpu = re.search(r"model name\s*:\s*(.*)", _text(Path("/proc/cpuinfo")))
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text(Path("/etc/os-release")), re.MULTILINE)
    # A build's own suffix would name who runs the machine.
    kernel = re.match(r"\d+(\.\d+)*", platform.release())
    return Machine(
        cpu=cpu[1].strip() if cpu else platform.processor() or platform.machine(),
        cores=psutil.cpu_count() or 1,
        memory_gib=max(round(psutil.virtual_memory().total / 2**30), 1),
        disk=f"{_file_system(data)}, {shutil.disk_usage(data).total / 2**30:.0f} GiB",
        system=system[1] if system else platform.system(),
        kernel=kernel[0] if kernel else platform.release(),
        python=platform.python_version(),
    )


def around(data: Path) -> Around:
    """As it is just now."""
    return Around(load_average=round(os.getloadavg()[0], 2), sync_ms=sync_milliseconds(data))


def sync_milliseconds(data: Path) -> float:
    """Median of WRITES durable writes of 8 KiB, one after the other, as a commit makes them."""
    seconds = []
    with tempfile.TemporaryFile(dir=data, buffering=0) as file:
        for _ in range(WRITES):
            began = time.perf_counter()
            file.write(WRITTEN)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return round(median(seconds) * 1000, 3)


def commit(root: Path) -> str | None:
    """The checkout's short hash, `-dirty` behind it where a tracked file differs that is no page and no measured fact."""
    found = folder.commit(root)
    if found is None or not found.endswith("-dirty"):
        return found
    ignored = [":(exclude)*.md", ":(exclude)docs/*.json"]
    command = ["git", "-C", str(root), "diff", "--quiet", "HEAD", "--", ".", *ignored]
    try:
        same = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return found
    return found.removesuffix("-dirty") if same else found


def images(root: Path, services: Iterable[str]) -> list[str]:
    """Foreign images of the services and of what they depend on. Raises RuntimeProblem."""
    stack = ComposeFile(root / "docker-compose.yml").resolve(given_values(root))
    named = stack.with_dependencies(list(services))
    return list(dict.fromkeys(stack.service(name).image for name in named if not stack.service(name).builds))


def versions(root: Path, runtime: str, foreign: Iterable[str]) -> dict[str, str]:
    """Of the servers behind these images, by a person's name for each."""
    found = {}
    for image in foreign:
        name, _, tag = image.rpartition(":")
        short = name.rpartition("/")[2]
        if short in SERVERS:
            found[SERVERS[short]] = (
                docker_version(short, tag) if runtime == "docker" else native_version(root, short, tag)
            )
    return found


def docker_version(short: str, tag: str) -> str:
    """The tag; of a search engine with which one it is."""
    return f"{short.capitalize()} {tag}" if short in SEARCH_ENGINES else tag


def native_version(root: Path, short: str, tag: str) -> str:
    """What runs in place of an image; Kafka's jars have the version of its tag."""
    jars = root / ".lab" / "jars"
    match short:
        case "postgres":
            return _said_by(str(find_binaries(None) / "postgres"), "--version")
        case "redis":
            return _said_by("redis-server", "--version")
        case "connect":
            return _of_jar(jars, "debezium-connector-postgres")
        case "elasticsearch" | "opensearch":
            return f"OpenSearch {_of_jar(jars, 'opensearch')}"
        case _:
            return tag


def stand_ins(runtime: str, foreign: Iterable[str]) -> list[str]:
    """Images that are not the official ones of their name; natively none is used."""
    return engine.stand_ins(foreign) if runtime == "docker" else []


def _said_by(*command: str) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "not known"
    number = NUMBER.search(said)
    return number[0] if number else "not known"


def _of_jar(jars: Path, name: str) -> str:
    pattern = re.compile(rf"{re.escape(name)}-(\d+\.\d+\.\d+[\w.]*)\.jar")
    found = (pattern.fullmatch(path.name) for path in sorted(jars.glob(f"*/{name}-*.jar"), reverse=True))
    return next((match[1] for match in found if match), "not known")


def _file_system(data: Path) -> str:
    mounts = [line.split() for line in _text(Path("/proc/mounts")).splitlines()]
    above = [(place, kind) for _, place, kind, *_ in mounts if data.resolve().is_relative_to(place)]
    return max(above, key=lambda one: len(one[0]))[1] if above else "not known"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
