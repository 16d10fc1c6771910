"""All load generators of a soak at once: started, watched and stopped together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from labs.engine import load as loading
from labs.engine.load import Generator, PhaseStart
from labs.engine.model import Operation, Window
from labs.engine.world import TrialContext, World
from labs.soak.systems import LATER_JOBS, SOURCES, Source

VARIABLE = re.compile(r"\$\{(\w+)\}")
START_SECONDS = 90.0
"""Five interpreters that load Locust at the same time as everything else has just been started."""
SPARE_SECONDS = 600.0
"""The schedule is longer than the load is planned, since faults and heals take their time; SIGTERM ends it."""
SEED_STEP = 7_919
"""Between the sources, so that none has the arrivals of another."""


@dataclass(frozen=True, slots=True)
class Second:
    """All sources together in their newest second."""

    sent: int
    bad: int
    ended: int
    p99_ms: float | None


@dataclass(slots=True)
class Loads:
    """Use as an async context manager: leaving it ends all processes in any case."""

    world: World
    context: TrialContext
    seconds: float
    sources: Sequence[Source] = SOURCES
    generators: dict[str, Generator] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        """Start all. Raises OSError."""
        for number, source in enumerate(self.sources):
            generator = self._generator(source, self.world.seed + number * SEED_STEP)
            self.generators[source.name] = await self._stack.enter_async_context(generator)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs, without mercy."""
        await self._stack.__aexit__(kind, error, trace)

    def _generator(self, source: Source, seed: int) -> Generator:
        folder = self.world.folder / "raw"
        folder.mkdir(exist_ok=True)
        options = [
            VARIABLE.sub(lambda match: self.world.runtime.variable(match[1]), one) for one in source.load.options
        ]
        if source.load.grows:
            times = self._times(source)
            times.write_text("1")
            options += ["--times", str(times)]
        history, live = folder / f"{source.name}.history.jsonl", folder / f"{source.name}.live.jsonl"
        argv = loading.command(
            replace(source.load, options=tuple(options)),
            self.context.url(source.to),
            seed,
            self.seconds + SPARE_SECONDS,
            history,
            live,
            program=self.world.generator,
        )
        return Generator(argv, self.world.root, folder / f"{source.name}.log", history, live)

    def _times(self, source: Source) -> Path:
        return self.world.folder / "raw" / f"{source.name}.times"

    def slow_down(self) -> None:
        """Sources whose work adds up go on at a hundredth of their rate."""
        for source in self.sources:
            if source.load.grows:
                fresh = self._times(source).with_suffix(".new")
                fresh.write_text(f"{LATER_JOBS:g}")
                fresh.replace(self._times(source))

    async def started(self) -> None:
        """Each has sent something. Raises LoadProblem."""
        await asyncio.gather(*(one.started(START_SECONDS) for one in self.generators.values()))

    def poll(self) -> Second:
        """Read what was written since. Raises LoadProblem, also when one has ended by itself."""
        newest = []
        for generator in self.generators.values():
            generator.check_alive()
            generator.poll()
            newest += generator.live[-1:]
        latencies = [one.p99_ms for one in newest if one.p99_ms is not None]
        return Second(
            sent=sum(one.sent for one in newest),
            bad=sum(one.fail + one.unknown for one in newest),
            ended=sum(one.ok + one.fail + one.unknown for one in newest),
            p99_ms=max(latencies, default=None),
        )

    def cpu_seconds(self) -> Mapping[str, float]:
        """Used so far, by source. Raises LoadProblem."""
        return {name: one.cpu_seconds() for name, one in self.generators.items()}

    async def stop(self) -> None:
        """SIGTERM to all, and wait until all has been written. Raises LoadProblem."""
        await asyncio.gather(*(one.stop() for one in self.generators.values()))

    def history(self, phases: Sequence[PhaseStart]) -> dict[str, list[Operation]]:
        """By source, in the run's time."""
        return {
            name: loading.to_operations(one.records, self.world.clock, phases) for name, one in self.generators.items()
        }


def between(operations: Sequence[Operation], start: float, end: float) -> Window:
    """Those meant to be sent in a stretch of the run."""
    return Window(end - start, tuple(one for one in operations if start <= one.intended_at < end))


def all_of(history: Mapping[str, Sequence[Operation]], names: Sequence[str]) -> list[Operation]:
    """The operations of several sources in order of intended time."""
    return sorted(_each(history, names), key=lambda one: one.intended_at)


def _each(history: Mapping[str, Sequence[Operation]], names: Sequence[str]) -> Iterator[Operation]:
    for name in names:
        yield from history.get(name, ())
