"""One small process per project: enforces memory limits and caps logs. Ends by itself when the project is down.

Started as `python -m infra.native.warden HOME`. Standard library and procfs only, to stay near 12 MiB.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from infra.native import procfs
from infra.native.locking import locked

PERIOD = 1.0
LOG_CAP = 64 << 20
LOG_KEPT = 8 << 20
_PATIENCE = 5.0  # seconds without any live process


def main(home: Path) -> int:
    last_seen_alive = time.monotonic()
    while True:
        records = read_records(home)
        living = [record for record in records if check(home, record)]
        if living:
            last_seen_alive = time.monotonic()
        elif time.monotonic() - last_seen_alive > _PATIENCE and leave(home):
            return 0
        time.sleep(PERIOD)


def read_records(home: Path) -> list[dict[str, object]]:
    try:
        return list(json.loads((home / "state.json").read_bytes())["records"].values())
    except FileNotFoundError:
        return []


def check(home: Path, record: dict[str, object]) -> bool:
    """Look after one service; whether it lives."""
    root = procfs.read_stat(int(str(record["pid"])))
    if root is None or not root.alive or root.start_ticks != record["start_ticks"]:
        return False
    name, limit = str(record["name"]), record["memory_limit"]
    scope = procfs.Scope(Path(str(record["directory"])) if record["directory"] is not None else None)
    if isinstance(limit, int):
        used = procfs.memory_of(stat.pid for stat in procfs.tree(root.pid, scope))
        if used > limit:
            note = home / "warden" / name
            note.parent.mkdir(exist_ok=True)
            note.write_text(f"out of memory: used {used >> 20} MiB of {limit >> 20} MiB")
            procfs.kill_tree(root, scope)
    cap_log(home / "logs" / f"{name}.log")
    return True


def cap_log(log: Path) -> None:
    """Keep the newest part beside it. The writer appends (O_APPEND), so truncating is safe."""
    try:
        if log.stat().st_size <= LOG_CAP:
            return
        with log.open("r+b") as file:
            file.seek(-LOG_KEPT, os.SEEK_END)
            log.with_suffix(".log.1").write_bytes(file.read())
            file.truncate(0)
    except FileNotFoundError:
        return


def leave(home: Path) -> bool:
    """Whether nothing lives, seen under the lock that every start holds; then the warden's own record goes too."""
    if not home.is_dir():
        return True
    with locked(home / "state.lock", "the project", timeout=60.0):
        alive = any(check(home, record) for record in read_records(home))
        if not alive:
            (home / "warden.json").unlink(missing_ok=True)
        return not alive


def stop(_number: int, _frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(Path(sys.argv[1])))
