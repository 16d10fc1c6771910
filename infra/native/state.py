"""What the runtime knows of a project between two commands. The truth about a process is always asked from /proc."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from infra.native import procfs
from infra.native.layout import Layout
from infra.native.locking import locked
from infra.runtime import ProcessIdentity, RuntimeProblem


class Record(msgspec.Struct):
    """The last life of one copy of a service. `env` is what `up` was given for it; `directory` its own
    data folder, `mark` an entry of its environment, `keeper` the shell that waits for its exit code."""

    name: str
    service: str
    order: int
    env: dict[str, str]
    fingerprint: str
    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""
    program: str = ""
    command: str = ""
    directory: str | None = None
    mark: str = ""
    keeper: procfs.Stat | None = None
    memory_limit: int | None = None
    port: int | None = None
    one_shot: bool = False
    lives: int = 0
    ended: str = ""

    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(self.name, self.pid, procfs.monotonic_start(self.start_ticks), self.command)

    def scope(self) -> procfs.Scope:
        return procfs.Scope(None if self.directory is None else Path(self.directory), self.mark or None)


class ProjectState(msgspec.Struct):
    port_offset: int = 0
    edges: bool = False
    started: int = 0
    records: dict[str, Record] = {}
    allotted: dict[str, int] = {}


class StateFile:
    """Reads and writes a project's state. `changing` is the only way to write."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def read(self) -> ProjectState:
        """Raises RuntimeProblem when the file is not ours."""
        try:
            return msgspec.json.decode(self._layout.state.read_bytes(), type=ProjectState)
        except FileNotFoundError:
            return ProjectState()
        except msgspec.DecodeError as error:
            raise RuntimeProblem(f"{self._layout.state} is damaged ({error}); 'make clean' starts afresh.") from None

    @contextmanager
    def changing(self) -> Iterator[ProjectState]:
        """Hold the state's lock, give the state, write it back whole. Keep the block short; do not nest."""
        with locked(self._layout.home / "state.lock", f"the state of project '{self._layout.project}'", timeout=30.0):
            state = self.read()
            yield state
            part = self._layout.state.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(state))
            part.rename(self._layout.state)

    def remove(self) -> None:
        self._layout.state.unlink(missing_ok=True)


def life_of(record: Record) -> procfs.Stat | None:
    """The recorded process if it lives: same boot, same start time, same program. A pid alone proves nothing."""
    if not record.pid or record.boot_id != procfs.boot_id():
        return None
    stat = procfs.read_stat(record.pid)
    if stat is None or not stat.alive or stat.start_ticks != record.start_ticks:
        return None
    words = procfs.command_line(record.pid)
    program = Path(words[0].split(" ")[0]).name if words else ""
    return stat if program.rstrip(":") == record.program.rstrip(":") else None


def members_of(record: Record) -> list[procfs.Stat]:
    """The recorded process and all below it, and what was left of them in the data folder."""
    life = life_of(record)
    return procfs.tree(life.pid if life is not None else -1, record.scope())


def exit_code(layout: Layout, name: str) -> int | None:
    """What the service's wrapper wrote; 128 + n for a signal. None while it runs or when nobody saw the end."""
    try:
        text = layout.exit_code(name).read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else None


def remove_tree(path: Path) -> None:
    """A folder, or what a link to a folder points at and the link. Missing is fine."""
    if path.is_symlink():
        shutil.rmtree(os.path.realpath(path), ignore_errors=True)
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
