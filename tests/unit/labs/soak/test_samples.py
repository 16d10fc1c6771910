"""What /proc tells of a process and of all below it, and that a look that fails ends no soak."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.runtime import Runtime, RuntimeProblem, ServiceStatus
from labs.soak.samples import Sample, Sampler, by_life, by_service, take
from tests.labs.fake_world import FakeRuntime, checked

HOLDS_TEN = """
import sys, tempfile
files = [tempfile.TemporaryFile() for _ in range(10)]
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def child(program: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


class OneProcess(FakeRuntime):
    pid = 0

    def status(self) -> list[ServiceStatus]:
        rows = [("a", "running", self.pid), ("b", "exited", None), ("c", "done", None)]
        return [ServiceStatus(name, state, pid, None, 5.0, 7 << 20, None, None, 0, "") for name, state, pid in rows]


def test_open_files_are_those_of_the_process_and_all_below_it() -> None:
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS_TEN!r}], stdin=sys.stdin)"
    with child(nested) as process:
        runtime = OneProcess()
        runtime.pid = process.pid
        (sample,) = take(checked(runtime), 12.34)
        own = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    assert sample.service == "a"
    assert (sample.at, sample.memory_bytes, sample.started_at) == (12.3, 7 << 20, 5.0)
    assert sample.descriptors is not None
    assert sample.descriptors >= own + 10


def test_who_has_ended_meanwhile_is_no_error() -> None:
    runtime = OneProcess()
    runtime.pid = 2**22 + 5
    assert [one.descriptors for one in take(checked(runtime), 0.0)] == [0]


def sample(service: str, pid: int, at: float) -> Sample:
    return Sample(at=at, service=service, pid=pid, started_at=float(pid), memory_bytes=1, descriptors=1)


def test_samples_are_told_apart_by_service_and_by_life() -> None:
    found = [sample("a", 1, 0), sample("b", 2, 0), sample("a", 1, 5), sample("a", 3, 10)]
    assert {name: len(own) for name, own in by_service(found).items()} == {"a": 3, "b": 1}
    assert [len(life) for life in by_life(found)] == [2, 1, 1]


async def test_a_look_that_fails_is_counted_and_the_next_one_is_taken() -> None:
    looks = iter([RuntimeProblem("its state is being written"), OSError("too many files")])
    loop, seen = asyncio.get_running_loop(), asyncio.Event()

    def look(_runtime: Runtime, at: float) -> list[Sample]:
        for problem in looks:
            raise problem
        loop.call_soon_threadsafe(seen.set)
        return [sample("a", os.getpid(), at)]

    sampler = Sampler(checked(FakeRuntime()), lambda: 1.0, 0.001, look)
    running = asyncio.create_task(sampler.run())
    async with asyncio.timeout(20):
        await seen.wait()
    running.cancel()
    await asyncio.wait([running])
    assert sampler.missed == 2
