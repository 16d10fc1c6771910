"""A full disk: one named volume on a tmpfs of 64 MiB without a free byte.

The server is stopped, its data copied to the tmpfs, which is mounted over the volume's folder, and the server started and the
rest of the space taken by a ballast file. Heal does it backwards and keeps what was written meanwhile; each step can be done
again after an interruption, and the volume's own files are replaced in one rename when the copy of the tmpfs is whole.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.runtime import Runtime, RuntimeProblem
from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults.process import ensure_running
from labs.faults.zero import NOTHING

SIZE_MIB = 64
ROOM_MIB = 8
"""What the data must leave free, so that the server can start on the small disk before it is filled."""
BALLAST = "lab-ballast"
_MOUNTS = Path("/proc/self/mounts")

FolderOf = Callable[[Runtime, str], Path]
"""Where this machine keeps the named volume of a service. Raises RuntimeProblem."""


def is_mounted(folder: Path) -> bool:
    """Whether a file system is mounted exactly there."""
    lines = [line.split() for line in _MOUNTS.read_text().splitlines()]
    return any(fields[1].encode().decode("unicode_escape") == str(folder) for fields in lines)


def used_bytes(folder: Path) -> int:
    """What the files take on disk; a sparse file only what it holds."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """The folder of a volume, and the steps between large and small. All block; all raise OSError or RuntimeProblem."""

    folder: Path

    @property
    def _beside(self) -> Path:
        """Where the tmpfs is filled before it covers the folder."""
        return self.folder.with_name(f"{self.folder.name}.small")

    @property
    def _kept(self) -> Path:
        """The whole copy of the tmpfs on the large disk; it has this name only when it is complete."""
        return self.folder.with_name(f"{self.folder.name}.kept")

    @property
    def _old(self) -> Path:
        """The volume's files as they were before, until the copy is in their place."""
        return self.folder.with_name(f"{self.folder.name}.old")

    @property
    def broken(self) -> bool:
        """Whether anything is left to be done backwards."""
        return is_mounted(self.folder) or is_mounted(self._beside) or self._kept.exists() or self._old.exists()

    def require_room(self) -> None:
        """Raises RuntimeProblem when the data does not fit."""
        used = used_bytes(self.folder) >> 20
        if used > SIZE_MIB - ROOM_MIB:
            raise RuntimeProblem(
                f"The volume holds {used} MiB, and a disk of {SIZE_MIB} MiB must keep {ROOM_MIB} MiB free to begin with;"
                " 'make clean' empties it."
            )

    def shrink(self) -> None:
        """Cover the folder with a tmpfs that holds a copy of it. The server must not run."""
        self._beside.mkdir(exist_ok=True)
        status = self.folder.stat()
        options = f"size={SIZE_MIB}m,mode={status.st_mode & 0o7777:o},uid={status.st_uid},gid={status.st_gid}"
        _run("mount", "-t", "tmpfs", "-o", options, "lab-full-disk", str(self._beside))
        try:
            _copy(self.folder, self._beside)
            _run("mount", "--bind", str(self._beside), str(self.folder))
        finally:
            _run("umount", str(self._beside))
            self._beside.rmdir()

    def fill(self) -> None:
        """Take every free byte. Raises OSError other than that the disk is full."""
        with (self.folder / BALLAST).open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        ballast.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free_bytes(self) -> int:
        """What another writer could still take."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def make_room(self) -> None:
        """Take the ballast away."""
        if is_mounted(self.folder):
            (self.folder / BALLAST).unlink(missing_ok=True)

    def enlarge(self) -> None:
        """The large disk again, with what was written meanwhile. The server must not run. Idempotent."""
        if is_mounted(self._beside):
            _run("umount", str(self._beside))
        if self._beside.exists():
            self._beside.rmdir()
        if is_mounted(self.folder):
            part = self.folder.with_name(f"{self.folder.name}.part")
            shutil.rmtree(self._kept, ignore_errors=True)
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _copy(self.folder, part)
            shutil.copystat(self.folder, part)
            status = self.folder.stat()
            os.chown(part, status.st_uid, status.st_gid)
            os.sync()
            part.rename(self._kept)
            _run("umount", str(self.folder))
        if self._kept.exists():
            shutil.rmtree(self._old, ignore_errors=True)
            if self.folder.exists():
                self.folder.rename(self._old)
            self._kept.rename(self.folder)
        shutil.rmtree(self._old, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Owner, mode, times, links and holes as they are."""
    _run("cp", "-a", "--sparse=always", f"{source}/.", f"{target}/")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeProblem(f"'{argv[0]}' said: {done.stderr.strip() or done.returncode}")


def require_mount_right(folder: Path) -> None:
    """Raises RuntimeProblem, without a trace left, when this process may not mount a tmpfs beside the folder."""
    if os.geteuid() != 0:
        raise RuntimeProblem(
            "A full disk needs the right to mount a tmpfs, and this is not root: run it with sudo, or skip this script."
        )
    trial = folder.with_name(f"{folder.name}.trial")
    trial.mkdir(exist_ok=True)
    try:
        _run("mount", "-t", "tmpfs", "-o", "size=1m", "lab-trial", str(trial))
        _run("umount", str(trial))
    except RuntimeProblem as problem:
        raise RuntimeProblem(
            f"A full disk needs the right to mount a tmpfs, which is refused here: {problem}"
        ) from None
    finally:
        trial.rmdir()


@dataclass(frozen=True, slots=True)
class FullDisk:
    """The service's named volume is full."""

    role: str
    folder_of: FolderOf
    times: int = 1
    lasting: float = 20.0
    kind: str = "full_disk"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"mebibytes": SIZE_MIB, "times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    def _disk(self, ctx: FaultContext) -> SmallDisk:
        return SmallDisk(self.folder_of(ctx.runtime, self.target(ctx)).resolve())

    async def inject(self, ctx: FaultContext) -> SmallDisk | None:
        """Stop, move to the small disk, start, fill. Raises InjectFailedError or RuntimeProblem."""
        if not self.times:
            return None
        service = self.target(ctx)
        disk = self._disk(ctx)
        require_mount_right(disk.folder)
        disk.require_room()
        try:
            await blocking(ctx.runtime.stop, service)
            await blocking(disk.shrink)
            await blocking(ctx.runtime.start, service)
            await blocking(disk.fill)
        except OSError as error:
            raise InjectFailedError(f"the disk of {service} could not be filled: {error}") from error
        return disk

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """That nobody can write another block there, and what the server has said of it."""
        if not isinstance(handle, SmallDisk):
            return NOTHING
        service = self.target(ctx)
        free = handle.free_bytes()
        lines = [line for line in await blocking(ctx.runtime.logs, service, lines=200) if "No space left" in line]
        alive = await blocking(ctx.runtime.identity, service) is not None
        said = f"; its log says: {lines[-1].strip()[:160]}" if lines else ""
        state = "runs" if alive else "has ended"
        summary = f"{free} bytes are free on the {SIZE_MIB} MiB of {service}, which {state}{said}"
        return Receipt(free == 0, summary, {"free_bytes": free, "complaints": len(lines), "runs": alive})

    async def heal(self, ctx: FaultContext) -> None:
        """The large disk again, nothing lost, the server healthy. Raises HealFailedError."""
        if not self.times:
            return
        service = self.target(ctx)
        disk = self._disk(ctx)
        known = any(row.service == service for row in await blocking(ctx.runtime.status))
        try:
            if disk.broken:
                await blocking(disk.make_room)
                if known:
                    await blocking(ctx.runtime.stop, service)
                await blocking(disk.enlarge)
        except (OSError, RuntimeProblem) as error:
            raise HealFailedError(f"the disk of {service} is still small: {error}") from error
        if known:
            await ensure_running(ctx.runtime, service)


def full_disk(role: str, folder_of: FolderOf, *, times: int = 1) -> FullDisk:
    """Full now, as large as before at the end of the fault's time. `times=0` changes nothing."""
    return FullDisk(role, folder_of, times)
