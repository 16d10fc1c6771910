"""Starts a process that outlives this one, in a session of its own, with its exit code kept."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from infra.native import procfs
from infra.native.recipes.base import Launch
from infra.runtime import RuntimeProblem

# Each shell stands for one process: the outer one waits and writes the exit code; the inner one says its pid on
# descriptor 0 (a pipe to us) and becomes the program. In the foreground, since a shell's background commands ignore SIGINT.
_OUTER = 'file=$1; shift; "$@"; code=$?; exec 0</dev/null; echo $code >"$file"'
# Only the inner one enters the folder and carries the mark, by which the service's processes are found (procfs.Scope).
_INNER = 'cd "$0" || exit 126; export LAB_LIFE="$1"; shift; echo $$ >&0; exec 0</dev/null; exec "$@"'


@dataclass(frozen=True, slots=True)
class Spawned:
    """`mark` is in the environment of the process and of all that it starts; `keeper` waits for its exit code."""

    stat: procfs.Stat
    keeper: procfs.Stat | None
    program: str
    mark: str


def spawn(name: str, launch: Launch, log: Path, exit_file: Path) -> Spawned:
    """Returns once the program itself runs under the pid. Raises RuntimeProblem when it cannot be executed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    exit_file.parent.mkdir(parents=True, exist_ok=True)
    exit_file.unlink(missing_ok=True)
    switch = (
        [] if launch.user is None else ["setpriv", f"--reuid={launch.user}", f"--regid={launch.user}", "--init-groups"]
    )
    life = uuid.uuid4().hex
    inner = [*switch, "sh", "-c", _INNER, str(launch.cwd), life, *launch.argv]
    argv = ["setsid", "--fork", "sh", "-c", _OUTER, "sh", str(exit_file), *inner]
    reading, writing = os.pipe()
    try:
        with log.open("ab") as output:
            subprocess.run(argv, stdin=writing, stdout=output, stderr=output, cwd="/", env=dict(launch.env), check=True)
        os.close(writing)
        writing = -1
        told = _first_line(reading)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    stat = procfs.read_stat(int(told)) if told else None
    if stat is None:
        raise RuntimeProblem(f"{name} could not be started: {last_line(log)}")
    return Spawned(stat, procfs.read_stat(stat.parent), _program_after_exec(stat), f"LAB_LIFE={life}")


def _first_line(descriptor: int) -> str:
    text = b""
    while not text.endswith(b"\n"):
        piece = os.read(descriptor, 64)
        if not piece:
            return ""
        text += piece
    return text.decode().strip()


def _program_after_exec(stat: procfs.Stat, bound: float = 5.0) -> str:
    """Name of the program once the inner shell has become it; empty when it died before."""
    deadline = time.monotonic() + bound
    while time.monotonic() < deadline:
        words = procfs.command_line(stat.pid)  # empty for a moment during exec, and once it is dead
        if words and _INNER not in words:
            return Path(words[0].split(" ")[0]).name
        if not words and not procfs.same_life(stat):
            return ""
        time.sleep(0.001)
    return ""


def last_line(log: Path) -> str:
    lines = tail(log, 1)
    return lines[0].strip() if lines else "it wrote nothing"


def tail(log: Path, count: int) -> list[str]:
    """The last lines of a file; empty when there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1024 * max(count, 16)))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
