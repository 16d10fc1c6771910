"""What is broken by hand, on disk: an entry is written before anything breaks and removed when it is whole again.

So a fault whose command was killed is known to the next one. An entry belongs to the project: `make clean` removes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from infra.native import procfs
from infra.runtime import RuntimeProblem


class Entry(msgspec.Struct, frozen=True):
    """One fault by hand. `pid` with its start and boot is the command that will heal it; times are wall seconds."""

    do: str
    target: str
    options: Mapping[str, float]
    pid: int
    start_ticks: int
    boot_id: str
    begun_at: float
    heals_at: float

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.do} on {self.target}"

    @property
    def kept(self) -> bool:
        """Whether its command still lives and will heal it."""
        stat = procfs.read_stat(self.pid)
        same = stat is not None and stat.alive and stat.start_ticks == self.start_ticks
        return same and self.boot_id == procfs.boot_id()

    def state(self) -> str:
        """For people: who heals it, and when."""
        since = time.strftime("%H:%M:%S", time.localtime(self.begun_at))
        if self.kept:
            return f"{self.name} since {since}, heals itself in {max(0.0, self.heals_at - time.time()):.0f} s"
        return f"{self.name} since {since}, and its command is gone: 'make chaos do=heal' restores it"


class Register:
    """The entries of one project in `.lab/projects/<project>/chaos/`."""

    def __init__(self, root: Path, project: str) -> None:
        self._folder = root / ".lab" / "projects" / project / "chaos"

    def _file(self, do: str, target: str) -> Path:
        return self._folder / f"{do}@{target}.json"

    def enter(self, do: str, target: str, options: Mapping[str, float], seconds: float) -> Entry:
        """Raises RuntimeProblem if the same is broken already."""
        me = procfs.read_stat(os.getpid())
        assert me is not None
        now = time.time()
        entry = Entry(do, target, options, me.pid, me.start_ticks, procfs.boot_id(), now, now + seconds)
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{os.getpid()}.part"
        part.write_bytes(msgspec.json.encode(entry))
        try:
            os.link(part, self._file(do, target))
        except FileExistsError:
            old = next((one for one in self.entries() if (one.do, one.target) == (do, target)), None)
            what = f"{do} on {target} is at work" if old is None else old.state()
            raise RuntimeProblem(f"{what}; 'make chaos do=heal target={target}' ends it.") from None
        finally:
            part.unlink()
        return entry

    def acts(self, entry: Entry, seconds: float) -> None:
        """It is broken as of now: the time until the heal counts from here."""
        now = time.time()
        part = self._folder / f".{os.getpid()}.part"
        part.write_bytes(msgspec.json.encode(msgspec.structs.replace(entry, begun_at=now, heals_at=now + seconds)))
        part.rename(self._file(entry.do, entry.target))

    def leave(self, entry: Entry) -> None:
        """It is whole again."""
        self._file(entry.do, entry.target).unlink(missing_ok=True)

    def holds(self, entry: Entry) -> bool:
        """Whether it is still broken, as far as is known."""
        return self._file(entry.do, entry.target).exists()

    def entries(self) -> list[Entry]:
        """Oldest first. Raises RuntimeProblem for a file that is not ours."""
        found = []
        for file in self._folder.glob("*@*.json"):
            try:
                found.append(msgspec.json.decode(file.read_bytes(), type=Entry))
            except FileNotFoundError:
                continue  # healed meanwhile
            except msgspec.DecodeError as error:
                raise RuntimeProblem(f"{file} is damaged ({error}); delete it.") from None
        return sorted(found, key=lambda entry: entry.begun_at)
