"""What each process holds while the soak lasts: memory and open files, read from /proc every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.native import procfs
from infra.runtime import Runtime, RuntimeProblem
from labs.engine.blocking import blocking
from labs.engine.files import Line


class Sample(Line, frozen=True, kw_only=True):
    """A line of samples.jsonl: one life (pid and start) of a service. `descriptors` is None where /proc does not tell.

    `at` in seconds from the start of the run, `started_at` on the machine's monotonic clock.
    """

    at: float
    service: str
    pid: int
    started_at: float
    memory_bytes: int
    descriptors: int | None


Life = tuple[str, int, float]
Take = Callable[[Runtime, float], list[Sample]]
"""All running services now. Blocks; raises RuntimeProblem."""


def life_of(sample: Sample) -> Life:
    """A pid alone may be reused."""
    return sample.service, sample.pid, sample.started_at


def by_service(samples: Iterable[Sample]) -> Mapping[str, list[Sample]]:
    """In the order of time, as they were taken."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.service, []).append(sample)
    return found


def by_life(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The lives of one service or of several."""
    found: dict[Life, list[Sample]] = {}
    for sample in samples:
        found.setdefault(life_of(sample), []).append(sample)
    return list(found.values())


def take(runtime: Runtime, at: float) -> list[Sample]:
    """One look at every running service of the project."""
    rows = [row for row in runtime.status() if row.state in ("running", "paused") and row.pid is not None]
    children = _children()
    return [
        Sample(
            at=round(at, 1),
            service=row.service,
            pid=row.pid,
            started_at=row.started_at or 0.0,
            memory_bytes=row.memory_bytes,
            descriptors=_descriptors(row.pid, children),
        )
        for row in rows
        if row.pid is not None and row.memory_bytes is not None
    ]


def _children() -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = {}
    for stat in procfs.all_stats():
        if stat.alive:
            found.setdefault(stat.parent, []).append(stat.pid)
    return found


def _descriptors(root: int, children: Mapping[int, Sequence[int]]) -> int | None:
    """Open files of a process and all below it; None where they are not ours to read."""
    total, queue = 0, [root]
    while queue:
        pid = queue.pop()
        try:
            total += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except FileNotFoundError:
            continue  # it has ended since
        except PermissionError:
            return None
        queue.extend(children.get(pid, ()))
    return total


@dataclass(slots=True)
class Sampler:
    """Takes a sample every `every` s until it is cancelled. A look that fails is left out and counted."""

    runtime: Runtime
    now: Callable[[], float]
    every: float
    look: Take = take
    samples: list[Sample] = field(default_factory=list)
    missed: int = 0

    async def once(self) -> None:
        """One sample now."""
        try:
            self.samples += await blocking(self.look, self.runtime, self.now())
        except (RuntimeProblem, OSError):
            self.missed += 1

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(self.every)
