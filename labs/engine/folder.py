"""The folder of a run, and finding it again."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from infra.native.compose import ComposeFile
from infra.native.environment import given_values
from labs.engine import files
from labs.engine.clock import RunClock
from labs.engine.model import Lab

KEPT_RUNS = 20
KEEP_MARK = "keep"
"""A learner's own mark: `touch .lab/runs/week02-day2/<run>/keep`."""
GIT_PATIENCE_SECONDS = 10.0
LIBRARIES = ("aiohttp", "aiokafka", "asyncpg", "fastapi", "locust", "uvicorn")


def runs(root: Path) -> Path:
    """Where all runs are."""
    return root / ".lab" / "runs"


def create(root: Path, lab: str, clock: RunClock, seed: int) -> Path:
    """`.lab/runs/week02-day2/20260304T050607Z-seed42`; a number is added in the rare case that it exists."""
    name = f"{clock.wall.astimezone(UTC):%Y%m%dT%H%M%SZ}-seed{seed}"
    for number in range(1, 100):
        folder = runs(root) / lab / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{runs(root) / lab / name} exists a hundred times")


def link_latest(folder: Path) -> None:
    """Point `latest` at a finished run, in one step."""
    link, fresh = folder.parent / "latest", folder.parent / f".latest-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    fresh.replace(link)


def prune(newest: Path, keep: int = KEPT_RUNS) -> None:
    """Delete the oldest runs of a lab but for the newest `keep`, this one, and those with a file `keep` in their folder."""
    old = sorted((path for path in newest.parent.iterdir() if path.is_dir() and not path.is_symlink()), reverse=True)
    for path in old[keep:]:
        if path != newest and not (path / KEEP_MARK).exists():
            shutil.rmtree(path, ignore_errors=True)


def last_verdict(root: Path, lab: str) -> files.VerdictFile | None:
    """Of the newest finished run; None if there is none or it cannot be read."""
    try:
        return files.read(runs(root) / lab / "latest" / "verdict.json", files.VerdictFile)
    except (OSError, msgspec.DecodeError):
        return None


def told(lab: Lab, verdict: files.VerdictFile) -> str:
    """`pass`, or `pass of naive alone` where the run had not all variants that a run of the lab has."""
    regular = {name for name, variant in lab.variants.items() if not variant.on_request}
    names = list(verdict.variants)
    return verdict.verdict.value if regular <= set(names) else f"{verdict.verdict.value} of {', '.join(names)} alone"


def newest_report(root: Path) -> Path | None:
    """Over all labs."""
    found = [path for path in runs(root).glob("*/latest/report.html") if path.exists()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def host() -> dict[str, files.Plain]:
    """The machine, as far as it explains figures."""
    memory = psutil.virtual_memory()
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": psutil.cpu_count() or 0,
        "memory_bytes": memory.total,
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Python and the libraries that figures depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def commit(root: Path) -> str | None:
    """The checkout's short hash, `-dirty` behind it where tracked files differ; None without git or outside a checkout."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def images(root: Path, services: Iterable[str]) -> dict[str, str]:
    """What docker-compose.yml names for these services. Raises RuntimeProblem for a file that cannot be read."""
    path = root / "docker-compose.yml"
    described = ComposeFile(path).resolve(given_values(root)).services if path.exists() else {}
    return {name: described[name].image for name in services if name in described}


def configuration_hash(root: Path, own: Path) -> str:
    """SHA-256 over what the run was made from: the stack, the folder of its `own` modules, the load scripts, the locked versions."""
    digest = hashlib.sha256()
    paths = [root / "docker-compose.yml", root / "requirements.lock"]
    for folder in (own, root / "labs" / "invariants", root / "loadtests"):
        paths += sorted(folder.glob("*.py"))
    for path in paths:
        if path.exists():
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
