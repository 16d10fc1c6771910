"""A process of the checkout that is no service: started in the background, found again, ended by `make down`."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from infra.native import procfs
from infra.native.locking import locked
from infra.native.preflight import require_ports
from infra.native.recipes.base import Launch
from infra.native.recipes.http import answers
from infra.native.runtime import CHECKOUT
from infra.native.spawn import last_line, spawn
from infra.runtime import RuntimeProblem

START_SECONDS = 20.0
STOP_SECONDS = 75.0
"""It may have something to heal first."""


class Life(msgspec.Struct, frozen=True):
    """Which process it is; a pid alone may be reused."""

    pid: int
    start_ticks: int
    boot_id: str
    port: int


@dataclass(frozen=True, slots=True)
class Background:
    """`name` for sentences; its files are in `folder`."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / "log"

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def life(self) -> Life | None:
        """The recorded one, if it lives."""
        try:
            life = msgspec.json.decode(self._state.read_bytes(), type=Life)
        except (OSError, msgspec.DecodeError):
            return None
        return life if self._stat(life) is not None else None

    def start(
        self, argv: Sequence[str], *, port: int, variable: str, ready: str, root: Path = CHECKOUT
    ) -> tuple[Life, bool]:
        """It, and whether this call has started it. Returns when GET `ready` answers 200. Raises RuntimeProblem."""
        with locked(self.folder / "lock", f"the {self.name}"):
            if (life := self.life()) is not None:
                return life, False
            require_ports([(f"the {self.name}", port)], lambda _port: variable)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_bytes(b"")
            launch = Launch(tuple(argv), dict(os.environ), root)
            started = spawn(self.name, launch, self.log, self.folder / "exit").stat
            life = Life(started.pid, started.start_ticks, procfs.boot_id(), port)
            self._state.write_bytes(msgspec.json.encode(life))
            self._await(life, ready)
            return life, True

    def stop(self) -> bool:
        """SIGTERM, and SIGKILL if it has not ended in time. False if it did not run."""
        with locked(self.folder / "lock", f"the {self.name}"):
            life = self.life()
            stat = self._stat(life) if life is not None else None
            self._state.unlink(missing_ok=True)
            if stat is None:
                return False
            procfs.send(stat, signal.SIGTERM)
            procfs.await_end(stat, STOP_SECONDS)
            procfs.kill_tree(stat, procfs.NOBODY)
            return True

    def _await(self, life: Life, ready: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if answers(life.port, ready, 1.0):
                    return
            except (OSError, http.client.HTTPException):
                pass
            if self._stat(life) is None:
                break
            time.sleep(0.05)
        stat = self._stat(life)
        if stat is not None:
            procfs.kill_tree(stat, procfs.NOBODY)
        self._state.unlink(missing_ok=True)
        raise RuntimeProblem(f"The {self.name} did not start: {last_line(self.log)} (all of it is in {self.log})")

    @staticmethod
    def _stat(life: Life) -> procfs.Stat | None:
        stat = procfs.read_stat(life.pid)
        same = stat is not None and stat.alive and stat.start_ticks == life.start_ticks
        return stat if same and life.boot_id == procfs.boot_id() else None


def console(root: Path = CHECKOUT) -> Background:
    """The lab's web page (labs/console)."""
    return Background("console", root / ".lab" / "console")
