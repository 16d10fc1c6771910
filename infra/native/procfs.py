"""Processes as /proc tells them (proc(5)). Standard library only, since the warden imports it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_RESIDENT = re.compile(r"^(Rss\w+):\s+(\d+) kB$", re.MULTILINE)
_DEAD = {"Z", "X", "x"}


@dataclass(frozen=True, slots=True)
class Stat:
    """`start_ticks` counts clock ticks from boot: with the pid it names one process life until the next boot."""

    pid: int
    state: str
    parent: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        return self.state not in _DEAD

    @property
    def stopped(self) -> bool:
        return self.state in {"T", "t"}


@dataclass(frozen=True, slots=True)
class Scope:
    """How to find what belongs to a service although it has lost its parent.

    `directory`: its working directory, for servers whose children lead sessions of their own and fall to init when the
    server dies (Postgres backends). `mark`: an entry `NAME=value` of its environment, which children inherit.
    """

    directory: Path | None = None
    mark: str | None = None

    def holds(self, pid: int) -> bool:
        return self._works_here(pid) or self._is_marked(pid)

    def _works_here(self, pid: int) -> bool:
        try:
            return self.directory is not None and Path(f"/proc/{pid}/cwd").readlink() == self.directory
        except OSError:  # gone, or not ours to read
            return False

    def _is_marked(self, pid: int) -> bool:
        if self.mark is None:
            return False
        try:
            return self.mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


NOBODY = Scope()


def read_stat(pid: int) -> Stat | None:
    """None when there is no such process (any more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(pid, fields[0], int(fields[1]), int(fields[19]))


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def monotonic_start(start_ticks: int) -> float:
    """Start time in seconds on `time.monotonic()`; /proc counts on the boot clock, which runs on during suspend."""
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return round(start_ticks / _TICKS_PER_SECOND - asleep, 2)


def command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0")] if raw else []


def all_stats() -> Iterator[Stat]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (stat := read_stat(int(entry.name))) is not None:
            yield stat


def tree(root: int, scope: Scope = NOBODY) -> list[Stat]:
    """The live processes below `root`, itself first, and whatever else the scope holds."""
    known = {stat.pid: stat for stat in all_stats() if stat.alive}
    children: dict[int, list[int]] = {}
    for stat in known.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: list[int] = []
    queue = [root]
    while queue:
        pid = queue.pop(0)
        if pid in known:
            found.append(pid)
        queue.extend(children.get(pid, []))
    if scope != NOBODY:
        found.extend(pid for pid in known if pid not in found and scope.holds(pid))
    return [known[pid] for pid in found]


def memory_of(pids: Iterable[int]) -> int:
    """Bytes that a group of processes holds: its own pages summed, shared memory (Postgres' buffers) once.

    Pages of mapped files are left out, as the kernel takes them back when it needs room: a search engine maps its whole index.
    """
    own = shared = 0
    for pid in pids:
        try:
            found = dict(_RESIDENT.findall(Path(f"/proc/{pid}/status").read_text()))
        except (FileNotFoundError, ProcessLookupError):
            continue
        own += int(found.get("RssAnon", 0))
        shared = max(shared, int(found.get("RssShmem", 0)))
    return (own + shared) << 10


def send(stat: Stat, number: signal.Signals) -> bool:
    """Signal exactly this life of a process; False when it is gone or the pid belongs to another by now."""
    now = read_stat(stat.pid)
    if now is None or now.start_ticks != stat.start_ticks or not now.alive:
        return False
    try:
        os.kill(stat.pid, number)
    except ProcessLookupError:
        return False
    return True


def kill_tree(root: Stat | None, scope: Scope, timeout: float = 10.0) -> bool:
    """SIGKILL the root and all below it until none is left; True when that is proved within `timeout` seconds.

    The root is stopped first, so that it forks nothing while its children are being collected.
    """
    if root is not None:
        send(root, signal.SIGSTOP)
    victims: dict[int, Stat] = {}
    deadline = time.monotonic() + timeout
    while True:
        pid = root.pid if root is not None and same_life(root) else -1
        for stat in tree(pid, scope):
            victims[stat.pid] = stat
        if not [stat for stat in victims.values() if send(stat, signal.SIGKILL)]:
            await_burial(root)
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)


def await_burial(dead: Stat | None, bound: float = 2.0) -> None:
    """Until it has ended and its parent has collected it: a zombie holds its pid, which Postgres' lock file trusts.

    Bounded, since the init process of some containers is slow to collect orphans.
    """
    deadline = time.monotonic() + bound
    while dead is not None and _exists(dead) and time.monotonic() < deadline:
        time.sleep(0.002)


def await_end(process: Stat | None, bound: float = 2.0) -> None:
    """Until it does nothing any more; a zombie is enough."""
    deadline = time.monotonic() + bound
    while process is not None and same_life(process) and time.monotonic() < deadline:
        time.sleep(0.002)


def _exists(stat: Stat) -> bool:
    now = read_stat(stat.pid)
    return now is not None and now.start_ticks == stat.start_ticks


def same_life(stat: Stat) -> bool:
    now = read_stat(stat.pid)
    return now is not None and now.start_ticks == stat.start_ticks and now.alive


def freeze_tree(root: Stat, scope: Scope, timeout: float = 5.0) -> bool:
    """SIGSTOP until /proc shows every process of the tree as stopped; True when so within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        members = tree(root.pid, scope)
        running = [stat for stat in members if not stat.stopped]
        if not running:
            return bool(members)
        for stat in running:
            send(stat, signal.SIGSTOP)
        time.sleep(0.005)
    return False


def thaw_tree(root: Stat, scope: Scope, timeout: float = 5.0) -> bool:
    """SIGCONT until none of the tree is stopped. True when so, also for a tree that has died meanwhile."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        frozen = [stat for stat in tree(root.pid, scope) if stat.stopped]
        if not frozen:
            return True
        for stat in frozen:
            send(stat, signal.SIGCONT)
        time.sleep(0.005)
    return False
