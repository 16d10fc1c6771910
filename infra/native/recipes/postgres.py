"""postgres:* from the system's package. Durability settings stay on; TCP on 127.0.0.1 only, with scram passwords."""

from __future__ import annotations

import os
import pwd
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from infra.native.compose import Service
from infra.native.recipes.base import (
    LOOPBACK,
    Launch,
    Site,
    base_environment,
    building,
    data_folder,
    digest_of,
    exchange,
    own,
    published,
)
from infra.runtime import RuntimeProblem

DATA = "/var/lib/postgresql/data"
_OLDEST = 15
_PROTOCOL_3 = 196608


class PostgresRecipe:
    """Image `postgres`. Refuses root, so root runs it as the package's user."""

    def ports(self, service: Service) -> list[int]:
        return published(service)

    def prepare(self, service: Service, site: Site) -> Launch:
        user = "postgres" if os.geteuid() == 0 else None
        if user is not None:
            _require_account(user)
        data = data_folder(site.mounts.get(DATA, site.data), user)
        version = data / "PG_VERSION"
        binaries = find_binaries(int(version.read_text()) if version.exists() else None)
        if not version.exists():
            if any(data.iterdir()):
                raise RuntimeProblem(f"{data} holds files but no Postgres cluster; 'make clean' starts afresh.")
            template = _template(binaries, site.tools / "cache", service.environment, user)
            _copy(template, data, user)
        return Launch(
            argv=(str(binaries / "postgres"), "-D", str(data), *service.command[1:], *_fixed_settings()),
            env={**base_environment(), **service.environment},
            cwd=data,
            user=user,
        )

    def ready(self, service: Service, site: Site, timeout: float) -> bool:
        """What pg_isready asks: a server that wants the password takes connections, one in recovery answers an error."""
        user = service.environment.get("POSTGRES_USER", "postgres")
        body = struct.pack("!I", _PROTOCOL_3) + b"user\0" + user.encode() + b"\0database\0postgres\0\0"
        startup = struct.pack("!I", len(body) + 4) + body
        return next(exchange(published(service)[0], startup, timeout), b"")[:1] == b"R"


def _fixed_settings() -> list[str]:
    settings = {
        "listen_addresses": LOOPBACK,
        "unix_socket_directories": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "dynamic_shared_memory_type": "mmap",  # in the data folder: in /dev/shm a killed server leaves it for good
    }
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def find_binaries(major: int | None = None) -> Path:
    """The newest installed server (15+), or exactly `major`. Raises RuntimeProblem."""
    found: dict[int, Path] = {}
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            found.setdefault(_major(folder), folder)
    if major is not None and major not in found:
        raise RuntimeProblem(
            f"The data was made by Postgres {major}, which is not installed; 'make clean' starts afresh."
        )
    usable = sorted(version for version in found if version >= _OLDEST)
    if not usable:
        raise RuntimeProblem(f"No Postgres server of version {_OLDEST} or newer is installed; run infra/setup.sh.")
    return found[major if major is not None else usable[-1]]


def _major(folder: Path) -> int:
    if folder.parent.name.isdigit():
        return int(folder.parent.name)
    words = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()
    return int(words[2].split(".")[0])


def _require_account(user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise RuntimeProblem(
            "Postgres refuses to run as root and the user 'postgres' does not exist; run infra/setup.sh."
        ) from None


def _template(binaries: Path, cache: Path, environment: Mapping[str, str], user: str | None) -> Path:
    """An initialised cluster, made once for each version and password, since initdb takes seconds."""
    name, password = environment.get("POSTGRES_USER", "postgres"), environment.get("POSTGRES_PASSWORD", "")
    if not password:
        raise RuntimeProblem("POSTGRES_PASSWORD is empty; set it in docker-compose.yml or .env.")
    folder = data_folder(cache / f"postgres-{digest_of([str(binaries), name, password])}", user)
    template = folder / "cluster"
    if template.exists():
        return template
    with building(template) as scratch, tempfile.NamedTemporaryFile("w", suffix=".pw") as secret:
        secret.write(password)
        secret.flush()
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(secret.name, account.pw_uid, account.pw_gid)
        words = ["-U", name, "--pwfile", secret.name, "-E", "UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]
        done = subprocess.run(
            [binaries / "initdb", "-D", scratch, "--no-sync", *words],
            capture_output=True, text=True, user=user, cwd=folder, env=base_environment(), check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeProblem(f"initdb failed: {' '.join(done.stderr.split()) or done.stdout[-300:]}.")
    return template


def _copy(template: Path, data: Path, user: str | None) -> None:
    """Whole or not at all: the copy gets its name when it is complete and on disk."""
    part = data.with_name(f"{data.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(template, part, symlinks=True)
    if user is not None:
        own(part, user)
    part.chmod(0o700)
    os.sync()
    part.rename(data)
