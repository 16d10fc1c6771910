"""What counts as a process's memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from infra.native import procfs

MIB = 1 << 20
HOLD = """
import mmap, sys
kind, size = sys.argv[1], int(sys.argv[2])
if kind == "file":
    file = open(sys.argv[3], "w+b")
    file.truncate(size)
    held = mmap.mmap(file.fileno(), size)
elif kind == "shared":
    held = mmap.mmap(-1, size)
elif kind == "own":
    held = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if kind != "nothing":
    for place in range(0, size, 4096):
        held[place] = 1
print("held", flush=True)
sys.stdin.read()
"""


def memory_while_holding(kind: str, file: str) -> int:
    """Of a process of its own."""
    argv = [sys.executable, "-c", HOLD, kind, str(64 * MIB), file]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        used = procfs.memory_of([holder.pid])
        holder.stdin.close()
    return used


@pytest.mark.parametrize(("kind", "counts"), [("own", True), ("shared", True), ("file", False)])
def test_memory_that_the_kernel_can_take_back_does_not_count(kind: str, counts: bool, tmp_path: object) -> None:
    file = f"{tmp_path}/mapped"
    more = memory_while_holding(kind, file) - memory_while_holding("nothing", file)
    assert (more >= 60 * MIB) is counts, f"{more >> 20} MiB more"


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert procfs.memory_of([2**22 + 1]) == 0
