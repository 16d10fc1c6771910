"""What the breakers that people install do with six call patterns, and what ours does: `python -m labs.week02.breaker_libraries`.

Each is used as its own documentation shows, with its own way of counting; only the time it stays open is made short. The
table is measured, and a test compares it with what the week's page prints.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from time import monotonic
from typing import Protocol

import aiobreaker  # type: ignore[import-untyped]  # it ships no types
import purgatory
import pybreaker
from purgatory.domain.model import OpenedState

from services.patterns.breaker import Breaker, Rule

OPEN_SECONDS = 0.2
SLOW_SECONDS = 0.02
PATTERN = "FSFFS"
CALLS = 1000
CROWD = 100
SETTLED_SECONDS = 0.3
"""A crowd that has not moved for so long waits for something else than the processor."""


class Broken(Exception):
    """The dependency failed."""


class Rejected(Exception):
    """The dependency said that the request was bad (4xx): excluded from what counts, where that is possible."""


Work = Callable[[], Awaitable[None]]


class Guarded(Protocol):
    """A breaker around calls. `call` returns True if the work was done, however it ended, and False if it was refused."""

    async def call(self, work: Work) -> bool: ...


class Ours:
    """services/patterns/breaker.py."""

    def __init__(self) -> None:
        rule = Rule(
            window_seconds=10, minimum_calls=20, failure_share=0.5, open_seconds=OPEN_SECONDS, probes=3,
            slow_seconds=SLOW_SECONDS / 2,
        )  # fmt: skip
        self._breaker = Breaker(rule, monotonic)

    async def call(self, work: Work) -> bool:
        permit = self._breaker.acquire()
        if permit is None:
            return False
        succeeded: bool | None = None
        try:
            await work()
            succeeded = True
        except Broken:
            succeeded = False
        except Rejected:
            pass
        finally:
            self._breaker.release(permit, succeeded)
        return True


class Purgatory:
    """As its README: `async with await factory.get_breaker(name)`."""

    def __init__(self) -> None:
        self._factory = purgatory.AsyncCircuitBreakerFactory(default_ttl=OPEN_SECONDS, exclude=[Rejected])

    async def call(self, work: Work) -> bool:
        try:
            async with await self._factory.get_breaker("bank"):
                await work()
        except OpenedState:
            return False
        except (Broken, Rejected):
            pass
        return True


class Aiobreaker:
    """As its README: `breaker.call_async(function)`."""

    def __init__(self) -> None:
        self._breaker = aiobreaker.CircuitBreaker(timeout_duration=timedelta(seconds=OPEN_SECONDS), exclude=[Rejected])

    async def call(self, work: Work) -> bool:
        began = Began(work)
        with suppress(aiobreaker.CircuitBreakerError, Broken, Rejected):
            await self._breaker.call_async(began)
        return began.yes


class PybreakerCalling:
    """In asyncio code: `with breaker.calling():` around the await."""

    def __init__(self) -> None:
        self._breaker = pybreaker.CircuitBreaker(reset_timeout=OPEN_SECONDS, exclude=[Rejected])

    async def call(self, work: Work) -> bool:
        began = Began(work)
        try:
            with self._breaker.calling():
                await began()
        except (pybreaker.CircuitBreakerError, Broken, Rejected):
            pass
        return began.yes


class PybreakerThreads:
    """As its README: `breaker.call(function)`, here from a hundred threads."""

    def __init__(self) -> None:
        self._breaker = pybreaker.CircuitBreaker(reset_timeout=OPEN_SECONDS, exclude=[Rejected])
        self._threads = ThreadPoolExecutor(CROWD)

    async def call(self, work: Work) -> bool:
        loop, began = asyncio.get_running_loop(), Began(work)

        def blocking() -> None:
            asyncio.run_coroutine_threadsafe(began(), loop).result()

        with suppress(pybreaker.CircuitBreakerError, Broken, Rejected):
            await loop.run_in_executor(self._threads, self._breaker.call, blocking)
        return began.yes

    def close(self) -> None:
        self._threads.shutdown()


@dataclass(slots=True)
class Began:
    """Whether the work was begun: some raise the same error for a refusal and for the failure that opened them."""

    work: Work
    yes: bool = False

    async def __call__(self) -> None:
        self.yes = True
        await self.work()


@dataclass(frozen=True, slots=True)
class Subject:
    """A way of using a library. `threads`: cancelling cannot reach a thread."""

    name: str
    make: Callable[[], Guarded]
    threads: bool = False


def _named(package: str, how: str) -> str:
    return f"{package} {version(package)}, {how}"


SUBJECTS = (
    Subject("services/patterns/breaker", Ours),
    Subject(_named("purgatory", "async with"), Purgatory),
    Subject(_named("aiobreaker", "call_async"), Aiobreaker),
    Subject(_named("pybreaker", "with calling()"), PybreakerCalling),
    Subject(_named("pybreaker", "call, threads"), PybreakerThreads, threads=True),
)


async def fails() -> None:
    """F."""
    raise Broken


async def succeeds() -> None:
    """S."""


async def rejected() -> None:
    """4xx."""
    raise Rejected


async def slow() -> None:
    """Succeeds, twice as late as our rule allows."""
    await asyncio.sleep(SLOW_SECONDS)


@contextmanager
def fresh(subject: Subject) -> Iterator[Guarded]:
    """A new breaker, closed."""
    made = subject.make()
    try:
        yield made
    finally:
        if isinstance(made, PybreakerThreads):
            made.close()


async def opens_after(subject: Subject, pattern: Sequence[Work], calls: int = CALLS) -> int | None:
    """How many calls of a repeated pattern are made until one is refused; None if that does not happen."""
    with fresh(subject) as guarded:
        for number in range(calls):
            if not await guarded.call(pattern[number % len(pattern)]):
                return number
    return None


@dataclass(slots=True)
class Crowd:
    """A hundred calls at once, each held until the gate is opened; then they all fail."""

    entered: int = 0
    refused: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self) -> None:
        self.entered += 1
        await self.gate.wait()
        raise Broken

    async def send(self, guarded: Guarded) -> int:
        """How many are let in before the first one has ended."""
        tasks = [asyncio.create_task(self._one(guarded)) for _ in range(CROWD)]
        seen, since = -1, monotonic()
        while self.entered + self.refused < CROWD and monotonic() - since < SETTLED_SECONDS:
            if self.entered + self.refused != seen:
                seen, since = self.entered + self.refused, monotonic()
            await asyncio.sleep(0.01)
        entered = self.entered
        self.gate.set()
        await asyncio.gather(*tasks)
        return entered

    async def _one(self, guarded: Guarded) -> None:
        self.refused += not await guarded.call(self.work)


async def crowd_when_closed(subject: Subject) -> int:
    """How many of a hundred calls may be under way at once while nothing is wrong."""
    with fresh(subject) as guarded:
        return await Crowd().send(guarded)


async def crowd_when_half_open(subject: Subject) -> int:
    """How many of a hundred calls reach a dependency that is still dead when the open time is over."""
    with fresh(subject) as guarded:
        while await guarded.call(fails):
            pass
        await asyncio.sleep(OPEN_SECONDS * 1.5)
        return await Crowd().send(guarded)


async def opens_by_cancelling(subject: Subject) -> bool | None:
    """Whether fifty callers who give up open it, while the dependency is well. None: they cannot give up."""
    if subject.threads:
        return None
    with fresh(subject) as guarded:
        for _ in range(50):
            began = asyncio.Event()

            async def waits(began: asyncio.Event = began) -> None:
                began.set()
                await asyncio.Event().wait()

            calling, beginning = asyncio.create_task(guarded.call(waits)), asyncio.create_task(began.wait())
            await asyncio.wait((calling, beginning), return_when=asyncio.FIRST_COMPLETED)
            for task in (calling, beginning):
                task.cancel()
            await asyncio.gather(calling, beginning, return_exceptions=True)
        return not await guarded.call(succeeds)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one subject."""

    name: str
    sixty_percent: str
    with_bad_requests: str
    slow: str
    cancelled: str
    closed_crowd: str
    half_open_crowd: str

    def cells(self) -> tuple[str, ...]:
        """In the order of HEADINGS."""
        return (
            self.name, self.sixty_percent, self.with_bad_requests, self.slow, self.cancelled, self.closed_crowd,
            self.half_open_crowd,
        )  # fmt: skip


HEADINGS = (
    "breaker",
    "60 % fail (F S F F S ...)",
    "80 % fail, 20 % are 4xx",
    "all slow, none fails",
    "50 callers cancel",
    "at once when closed, of 100",
    "at once when half-open, of 100",
)


async def measure(subject: Subject) -> Row:
    """All six."""
    mixed = [fails if letter == "F" else succeeds for letter in PATTERN]
    opened = await opens_by_cancelling(subject)
    return Row(
        subject.name,
        _opens(await opens_after(subject, mixed)),
        _opens(await opens_after(subject, [fails, fails, fails, fails, rejected])),
        _opens(await opens_after(subject, [slow], calls=60)),
        "cannot" if opened is None else "opens" if opened else "stays closed",
        str(await crowd_when_closed(subject)),
        str(await crowd_when_half_open(subject)),
    )


def _opens(after: int | None) -> str:
    return "never opens" if after is None else f"opens after {after}"


async def measure_all() -> list[Row]:
    """One after the other."""
    return [await measure(subject) for subject in SUBJECTS]


def markdown(rows: Sequence[Row]) -> str:
    """The table as the week's page has it."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown(asyncio.run(measure_all())))
