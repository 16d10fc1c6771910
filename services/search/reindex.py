"""A new index beside the one in use, filled while queries and changes go on, compared with the truth, and put in its place.

1. The new index is made, and gets all changes from then on, as the old one does (indices.create_for_copy).
2. The catalogue is copied by ranges of ids. Each range is one statement: a consistent snapshot, whose version its documents
   carry. No transaction stays open over the whole copy, which for ten million products would keep Postgres from cleaning up
   behind 500 changes/s for a quarter of an hour, and could not go on after a kill: a snapshot dies with its connection.
   It need not be one snapshot for all. A change that the range's snapshot shows is in the copy. Of one that it does not, the
   indexer reads the product afterwards, so after step 1, and writes to both (services.search.indexer); whichever of copy and
   change comes last, the later version stays. A delete is a version too, and stays for 24 h (`gc_deletes`).
3. The new index is merged to few segments and audited against the database by ranges and digests; what differs is written
   again.
4. The alias that queries read is moved at one instant. The old index goes on getting changes, so a rollback loses none.

Killed at any instant, the same command goes on: how far it was is in the database, in the state before the effect it tells of.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from services.kit.clock import Clock
from services.kit.failpoint import failpoint
from services.patterns.token_bucket import TokenBucket
from services.search import failpoints, mappings
from services.search.audit import Auditor, Report, Truth
from services.search.indices import Indices
from services.search.store.catalog import State
from services.search.store.reindexes import Reindex, ReindexState, ReindexStore
from services.search.writer import Outcome, Writer

log = logging.getLogger(__name__)

MOST_VERIFICATIONS = 3
AT_ONCE = 2
"""Portions that are being written: one shard writes one bulk request on one core. 200,000 products took 54.5 s instead of 62."""
Tell = Callable[[str], None]


class NotReady(Exception):
    """The new index is not as it must be; queries stay where they are. The message says what to do."""


@dataclass(slots=True)
class Reindexer:
    """`rate` in documents a second. `catalog`, `writer` and `auditor` wait while the database or the engine is away."""

    catalog: Truth
    store: ReindexStore
    indices: Indices
    writer: Writer
    auditor: Auditor
    clock: Clock
    portion: int
    rate: float
    tell: Tell
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = monotonic

    async def run(self, version: int | None, *, accept_refused: int = 0, swap: bool = True) -> Reindex:
        """Begin a reindex, or go on with the one that was begun; up to the swap, or to READY.

        Raises NotReady, OutOfPatience, AnotherAtWork, IndexProblem, UnknownMapping, and the engine's and database's errors.
        """
        async with self.store.alone():
            reindex = await self._begun(version)
            if reindex.state is ReindexState.COPYING:
                await self._copy(reindex)
            if reindex.state is not ReindexState.READY:
                await self._verify(reindex, accept_refused)
            if swap:
                await self._swap(reindex)
            return next(each for each in await self.store.recent() if each.id == reindex.id)

    async def abandon(self) -> str:
        """Give up the one that was begun and delete its index. Raises NotReady if there is none."""
        async with self.store.alone():
            reindex = await self.store.active()
            if reindex is None:
                raise NotReady("No reindex was begun.")
            await self.store.move(reindex.id, ReindexState.ABANDONED)
            if reindex.index_name in await self.indices.writing():
                await self.indices.drop(reindex.index_name)
            return reindex.index_name

    async def _begun(self, version: int | None) -> Reindex:
        mapping = mappings.load(version)
        reindex = await self.store.active()
        if reindex is None:
            await self._refuse_a_third()
            name = self.indices.name(mapping.version, self.clock.now())
            reindex = await self.store.begin(name, mapping.version)
        elif version is not None and reindex.mapping != version:
            raise NotReady(
                f"A reindex to version {reindex.mapping} was begun: finish it, or give it up with `abandon`."
            )
        else:
            self.tell(f"going on with {reindex.index_name}: {reindex.copied:,} documents copied")
        await self.indices.create_for_copy(reindex.index_name, mappings.load(reindex.mapping))
        await failpoint(failpoints.REINDEX_AFTER_CREATE)
        return reindex

    async def _refuse_a_third(self) -> None:
        reading = await self.indices.reading()
        if reading is None:
            raise NotReady("There is no index yet; `python -m services.search migrate` makes the first.")
        others = [each for each in await self.indices.writing() if each != reading]
        if others:
            raise NotReady(f"{', '.join(others)} still gets all changes; `index drop` it, then begin another reindex.")

    async def _copy(self, reindex: Reindex) -> None:
        bucket = TokenBucket(self.rate, self.portion, self.monotonic)
        copied, told = reindex.copied, self.monotonic()
        async with aclosing(self._written(reindex, bucket)) as written:
            async for state in written:
                await failpoint(failpoints.REINDEX_AFTER_BULK)
                copied += len(state.products)
                await self.store.copied(reindex.id, max(state.products), len(state.products))
                await failpoint(failpoints.REINDEX_AFTER_PORTION)
                if self.monotonic() - told >= 1:
                    told = self.monotonic()
                    self.tell(f"{copied:,} documents copied")
        self.tell(f"{copied:,} documents copied, all there are")
        await self.store.move(reindex.id, ReindexState.VERIFYING)

    async def _written(self, reindex: Reindex, bucket: TokenBucket) -> AsyncGenerator[State, None]:
        """Portions that the new index has, in their order. While the engine takes one, the next is made into documents.

        What is refused is missing at the comparison, which says why.
        """
        on_the_way: deque[tuple[State, asyncio.Task[Outcome]]] = deque()
        try:
            async with aclosing(self._portions(reindex.last_id)) as portions:
                async for state in portions:
                    await self._spend(bucket, len(state.products))
                    on_the_way.append((state, asyncio.create_task(self.writer.write(state, [reindex.index_name]))))
                    if len(on_the_way) == AT_ONCE:
                        await on_the_way[0][1]
                        yield on_the_way.popleft()[0]
            while on_the_way:
                await on_the_way[0][1]
                yield on_the_way.popleft()[0]
        finally:
            for _, task in on_the_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in on_the_way), return_exceptions=True)

    async def _portions(self, last: UUID | None) -> AsyncGenerator[State, None]:
        """The next one is read while the one before is written."""
        reading = asyncio.ensure_future(self.catalog.after(last, self.portion))
        try:
            while (state := await reading) is not None:
                last = max(state.products)
                reading = asyncio.ensure_future(self.catalog.after(last, self.portion))
                yield state
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _spend(self, bucket: TokenBucket, documents: int) -> None:
        while documents := documents - bucket.take(documents):
            await self.sleep(min(documents / self.rate, 0.5))

    async def _verify(self, reindex: Reindex, accept_refused: int) -> None:
        await self.indices.merge(reindex.index_name)
        await self.indices.open_for_queries(reindex.index_name)
        for _ in range(MOST_VERIFICATIONS):
            report = await self.auditor.audit(reindex.index_name)
            repaired = sum(bool(each.repaired) for each in report.findings)
            await self.store.move(reindex.id, ReindexState.VERIFYING, repaired)
            self.tell(f"compared {report.products:,} products: {repaired} repaired, {len(report.open())} open")
            # What was repaired was looked at again after its repair; under changes there is always something on its way.
            if not repaired or not report.open():
                break
        await self._judge(report, accept_refused)
        await self.store.move(reindex.id, ReindexState.READY)
        await failpoint(failpoints.REINDEX_AFTER_VERIFY)

    async def _judge(self, report: Report, accept_refused: int) -> None:
        wrong = report.open()
        if len(wrong) > accept_refused:
            named = "; ".join(f"{each.kind.value} {each.product}: {each.why}" for each in wrong[:10])
            raise NotReady(
                f"{len(wrong)} products are not in {report.index} as they should be ({named}). Mend them and go on with the"
                f" same command, or accept it with --accept-refused {len(wrong)}."
            )

    async def _swap(self, reindex: Reindex) -> None:
        before = await self.indices.swap(reindex.index_name)
        await failpoint(failpoints.REINDEX_AFTER_SWAP)
        await self.store.move(reindex.id, ReindexState.SWAPPED)
        kept = f"; {before} goes on getting changes for a rollback" if before else ""
        self.tell(f"queries read {reindex.index_name}{kept}")
