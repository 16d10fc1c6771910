"""What a recipe is: how one image of the compose file runs as a local process."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from infra.native.compose import Service
from infra.native.locking import locked
from infra.runtime import RuntimeProblem

LOOPBACK = "127.0.0.1"
SYSTEM_BINARIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a service lives. `mounts` maps container paths to paths here; `data` is its folder and working directory.

    `tools` holds jars, binaries and `cache`; `root` is the checkout.
    """

    root: Path
    tools: Path
    data: Path
    mounts: Mapping[str, Path]

    def localise(self, text: str) -> str:
        """Replace container paths inside one argument or value by the paths here."""
        if not self.mounts:
            return text
        targets = "|".join(re.escape(target) for target in sorted(self.mounts, key=len, reverse=True))
        return re.sub(rf"(?<![\w./-])({targets})(?=/|$)", lambda match: str(self.mounts[match.group(1)]), text)


@dataclass(frozen=True, slots=True)
class Launch:
    """What to execute. `user` None: as whoever runs the lab."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    user: str | None = None


class Recipe(Protocol):
    """One image. `service` has every variable resolved; all methods raise RuntimeProblem with a sentence."""

    def ports(self, service: Service) -> list[int]:
        """Every port it will listen on."""

    def prepare(self, service: Service, site: Site) -> Launch:
        """Make the data folder ready (idempotent, repairs what an interruption left) and say what to execute."""

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        """One probe of at most `timeout` seconds: does it serve what it is for?"""


def published(service: Service) -> list[int]:
    return [port.published for port in service.ports]


def base_environment() -> dict[str, str]:
    """What every process gets besides its own variables: as little as a container does."""
    kept = {name: os.environ[name] for name in ("HOME", "TZ", "TMPDIR") if name in os.environ}
    return {"PATH": os.pathsep.join(SYSTEM_BINARIES), "LANG": "C.UTF-8", **kept}


def find_binary(name: str, package: str, *folders: Path) -> str:
    """Raises RuntimeProblem that names the package."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), *SYSTEM_BINARIES])
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeProblem(f"{name} is not installed (package {package}); run infra/setup.sh.")
    return found


def exchange(port: int, payload: bytes, timeout: float) -> Iterator[bytes]:
    """Send bytes to a local port and yield what comes back, piece by piece. Raises OSError."""
    with socket.create_connection((LOOPBACK, port), timeout=timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(payload)
        while piece := connection.recv(65536):
            yield piece


def accessible_by(user: str, folder: Path) -> bool:
    """Whether `user` may pass through every parent of `folder`."""
    account = pwd.getpwnam(user)
    groups = os.getgrouplist(user, account.pw_gid)
    for parent in folder.resolve().parents:
        status = parent.stat()
        if status.st_uid == account.pw_uid:
            bit = 0o100
        elif status.st_gid in groups:
            bit = 0o010
        else:
            bit = 0o001
        if not status.st_mode & bit:
            return False
    return True


def data_folder(folder: Path, user: str | None) -> Path:
    """Create a service's data folder; for a user that cannot reach it, below /var/lib with a link here."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if user is None or accessible_by(user, folder):
        folder.mkdir(exist_ok=True)
        real = folder.resolve()
    else:
        digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:12]
        real = Path(f"/var/lib/lab-{digest}")
        real.mkdir(mode=0o700, exist_ok=True)
        if not folder.is_symlink():
            folder.symlink_to(real)
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(real, account.pw_uid, account.pw_gid)
    return real


def own(folder: Path, user: str) -> None:
    account = pwd.getpwnam(user)
    os.chown(folder, account.pw_uid, account.pw_gid)
    for path in folder.rglob("*"):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes `target` when the block succeeds; one builder at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f"{target.name}.lock"), "the cache"):
        scratch = target.with_name(f"{target.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            yield scratch
            if not target.exists():
                scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def digest_of(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
