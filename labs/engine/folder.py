"""The folder of a run, and finding it again."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from datetime import UTC
from importlib import metadata
from pathlib import Path

import msgspec
import psutil
import yaml

from labs.engine import files
from labs.engine.clock import RunClock
from labs.engine.model import Lab

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


def images(root: Path, services: Iterable[str]) -> dict[str, str]:
    """What docker-compose.yml names for these services."""
    path = root / "docker-compose.yml"
    described = (yaml.safe_load(path.read_text()) or {}).get("services", {}) if path.exists() else {}
    return {name: str(described[name].get("image", "")) for name in services if name in described}


def configuration_hash(root: Path, lab: Lab) -> str:
    """SHA-256 over what the run was made from: the stack, the lab's folder, the load scripts, the locked versions."""
    digest = hashlib.sha256()
    paths = [root / "docker-compose.yml", root / "requirements.lock"]
    for folder in (root / "labs" / f"week{lab.week:02d}", root / "labs" / "invariants", root / "loadtests"):
        paths += sorted(folder.glob("*.py"))
    for path in paths:
        if path.exists():
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
