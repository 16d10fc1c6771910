"""A stream of lines into the catalogue, a portion a commit, with no more memory than a portion takes.

While a portion is committed nothing is read, so a sender that is faster than the database is slowed by its own connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from services.catalog import failpoints, metrics, problems
from services.catalog.handlers import Context, product_of
from services.catalog.ndjson import Line, LineSplitter
from services.catalog.schemas import product_line
from services.catalog.store.imports import Bad, Done, Import, Moved, Portion, SkuTaken, Wanted
from services.kit import ids
from services.kit.errors import Problem
from services.kit.failpoint import failpoint

LONGEST_LINE = 64 * 1024
"""Bytes."""
PORTION_BYTES = 4 * 1024 * 1024
"""A portion ends here, too, however few lines it has."""
TOLD = 100
"""Bad lines in the answer; all are under /v1/imports/{id}/errors."""
TRIES = 3

Write = Callable[[Portion], Awaitable[None]]


@dataclass(slots=True)
class Progress:
    """What one request has done. `now`: where the import stands."""

    now: Import
    skipped: int = 0
    errors: list[Bad] = field(default_factory=list)


class Gatherer:
    """Lines become a portion. Empty lines count, and are nothing else."""

    def __init__(self, context: Context, next_line: int) -> None:
        self._context = context
        self._start(next_line)

    def _start(self, next_line: int) -> None:
        self._next_line = next_line
        self._wanted: list[Wanted] = []
        self._bad: list[Bad] = []
        self._skus: set[str] = set()
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether it should be written now."""
        lines = len(self._wanted) + len(self._bad)
        return lines >= self._context.settings.import_portion or self._bytes >= PORTION_BYTES

    def take(self, line: Line) -> Portion | None:
        """Add a line. If its SKU is in the portion already, that portion is returned and the line begins the next."""
        found = self._read(line)
        ended = None
        if isinstance(found, Wanted) and found.product.sku in self._skus:
            ended = self.cut()
        if isinstance(found, Wanted):
            self._wanted.append(found)
            self._skus.add(found.product.sku)
        elif found is not None:
            self._bad.append(found)
        self._next_line = line.number + 1
        self._bytes += len(line.text or b"")
        return ended

    def cut(self) -> Portion:
        """What has been gathered."""
        portion = Portion(self._next_line, self._wanted, self._bad)
        self._start(self._next_line)
        return portion

    def _read(self, line: Line) -> Wanted | Bad | None:
        if line.text is None:
            return Bad(line.number, f"the line is longer than {LONGEST_LINE} bytes")
        if not line.text.strip():
            return None
        try:
            body = product_line.decode(line.text)
            product = product_of(body, ids.uuid7(), self._context.clock.now())
        except msgspec.ValidationError as error:
            return Bad(line.number, _printable(str(error)))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return Bad(line.number, "the line is not JSON in UTF-8")
        except Problem as problem:
            return Bad(line.number, problem.detail or problem.title)
        return Wanted(line.number, product, body.created_at is not None)


def _printable(message: str) -> str:
    """A decoder quotes what it was given, and that need not be text that a database stores."""
    return "".join(letter if letter.isprintable() else "?" for letter in message[:300])


async def run_import(
    context: Context, owner: str, name: str, first_line: int, pieces: AsyncIterator[bytes]
) -> Progress:
    """Take the lines of `pieces`, the first of which is number `first_line`. Those that are decided already change nothing.

    What is committed stays, however it ends. Raises Problem, and what `pieces` raises.
    """
    progress = Progress(await context.imports.begin(owner, name))
    if first_line > progress.now.next_line:
        raise problems.LinesMissing(progress.now.next_line)
    splitter, gatherer = LineSplitter(LONGEST_LINE, first_line), Gatherer(context, progress.now.next_line)
    write = partial(_write, context, owner, progress)
    decided = progress.now.next_line
    async for piece in pieces:
        for line in splitter.feed(piece):
            await _one(line, decided, gatherer, progress, write)
    for line in splitter.close():
        await _one(line, decided, gatherer, progress, write)
    await write(gatherer.cut())
    progress.now = await context.imports.finish(owner, name)
    return progress


async def _one(line: Line, decided: int, gatherer: Gatherer, progress: Progress, write: Write) -> None:
    if line.number < decided:
        progress.skipped += 1
        metrics.IMPORT_LINES.labels("skipped").inc()
        return
    if (ended := gatherer.take(line)) is not None:
        await write(ended)
    if gatherer.full:
        await write(gatherer.cut())


async def _write(context: Context, owner: str, progress: Progress, portion: Portion) -> None:
    if portion.next_line == progress.now.next_line:
        return
    limit = context.settings.import_bad_lines
    done = await _committed(context, owner, progress.now, portion)
    await failpoint(failpoints.IMPORT_AFTER_COMMIT, progress.now.id)
    progress.now = done.now
    progress.errors += done.bad[: max(0, TOLD - len(progress.errors))]
    numbers = {"created": done.created, "updated": done.updated, "unchanged": done.unchanged, "rejected": len(done.bad)}
    for outcome, number in numbers.items():
        metrics.IMPORT_LINES.labels(outcome).inc(number)
    if done.now.rejected > limit:
        raise problems.TooManyBadLines(limit, done.now.next_line)


async def _committed(context: Context, owner: str, at: Import, portion: Portion) -> Done:
    for _ in range(TRIES):
        try:
            return await context.imports.write(
                owner, at, portion, lambda: failpoint(failpoints.IMPORT_BEFORE_COMMIT, at.id)
            )
        except Moved:
            raise problems.ImportMoved from None
        except SkuTaken:
            continue  # somebody wrote the same SKU at the same moment: now it is seen
    raise problems.Contended
