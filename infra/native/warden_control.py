"""Starts and stops a project's warden (infra/native/warden.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from infra.native import procfs
from infra.native.layout import Layout
from infra.native.recipes.base import Launch, base_environment
from infra.native.spawn import spawn

_CHECKOUT = Path(__file__).resolve().parents[2]


class _Life(msgspec.Struct):
    pid: int
    start_ticks: int
    boot_id: str


class WardenControl:
    """`ensure` is called under the state's lock, which the warden takes too before it leaves."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._file = layout.home / "warden.json"

    def ensure(self) -> None:
        if self.life() is not None:
            return
        argv = (sys.executable, "-m", "infra.native.warden", str(self._layout.home.resolve()))
        launch = Launch(argv, base_environment(), _CHECKOUT)
        stat = spawn("warden", launch, self._layout.log("warden"), self._layout.exit_code("warden")).stat
        self._file.write_bytes(msgspec.json.encode(_Life(stat.pid, stat.start_ticks, procfs.boot_id())))

    def life(self) -> procfs.Stat | None:
        """The warden's process, if the one on record still lives."""
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=_Life)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        stat = procfs.read_stat(known.pid) if known.boot_id == procfs.boot_id() else None
        return stat if stat is not None and stat.alive and stat.start_ticks == known.start_ticks else None

    def stop(self) -> None:
        stat = self.life()
        if stat is not None:
            procfs.kill_tree(stat, procfs.NOBODY)
        self._file.unlink(missing_ok=True)
