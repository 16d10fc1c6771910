"""Compares an index with the catalogue, range by range of ids, and names what is missing, stale or extra.

The truth is built from the database as the indexer builds it, so a changed mapping or a changed builder is noticed, too. Of
each range the engine says only how many documents it holds and the sum of their digests; the documents of a range are looked
at where that differs (in a `deep` audit everywhere, and by their content, since a digest is only what the writer said).

Changes are on their way all the time. So what differs is looked at again, by id and unrefreshed, after a while: a finding is
what still differs then although the truth stood still in between. Meanwhile the next ranges are compared: under
500 changes/s, found after a second, some 500 products are on their way at any moment, each in a range of its own if there are
ten million.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from services.patterns.dlq import Unprocessable
from services.search import documents
from services.search.engine import Document, Found, Hit
from services.search.indices import fields_of
from services.search.store.catalog import State
from services.search.writer import Outcome

AT_ONCE = 8
"""Portions of products that are waited for, to be looked at again."""
LOOKS = 5
"""A product that changes between every two looks is left to the next audit."""
OF_LATER = "the index has a version later than the database's: reindex"
Truths = dict[str, int | str | None]
"""By id the digest of its document; a text says why no index can hold it; None: the database has no such product."""
_FIRST, _LAST = "", "g"
"""Before and after every id, which are lower-case hexadecimal digits."""


class Kind(StrEnum):
    """MISSING: only the database has it. EXTRA: only the index has it. STALE: their contents differ.

    UNINDEXABLE: the database has what no index can hold.
    """

    MISSING = "missing"
    STALE = "stale"
    EXTRA = "extra"
    UNINDEXABLE = "unindexable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One product about which index and database disagree. `repaired` None: no repair was wanted."""

    kind: Kind
    product: str
    repaired: bool | None = None
    why: str = ""


@dataclass(slots=True)
class Report:
    """`unsettled`: products that changed at every look."""

    index: str
    products: int = 0
    ranges: int = 0
    differing_ranges: int = 0
    unsettled: int = 0
    findings: list[Finding] = field(default_factory=list)

    def open(self) -> list[Finding]:
        """What is still wrong."""
        return [each for each in self.findings if not each.repaired]


class Reads(Protocol):
    """The part of an Engine that an audit needs."""

    async def search(self, index: str, body: Any, *, within: float | None = None) -> Found: ...

    async def mget(self, index: str, documents: Sequence[str], *, source: Any = True) -> list[Document]: ...

    def scan(self, index: str, query: Any, *, source: Any = True, page: int = 1_000) -> AsyncIterator[Hit]: ...


class Truth(Protocol):
    """The part of a Catalog that an audit needs."""

    async def after(self, last: UUID | None, limit: int) -> State | None: ...

    async def these(self, products: Sequence[UUID]) -> State: ...


class Writes(Protocol):
    """The part of a Writer that a repair needs."""

    async def write(self, state: State, indices: Sequence[str]) -> Outcome: ...


@dataclass(slots=True)
class Auditor:
    """Without a `writer` it only looks. `settle` in seconds; `portion` products make a range."""

    engine: Reads
    catalog: Truth
    portion: int
    settle: float
    writer: Writes | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def audit(self, index: str, *, deep: bool = False) -> Report:
        """Compare everything once. Raises the engine's and the database's errors."""
        report, looking = Report(index), set[asyncio.Task[None]]()
        try:
            async with aclosing(self._differing(report, deep=deep)) as differing:
                async for suspects in differing:
                    if len(looking) == AT_ONCE:
                        looking = await _one_less(looking)
                    looking.add(asyncio.create_task(self._judge(report, suspects)))
            while looking:
                looking = await _one_less(looking)
        finally:
            for each in looking:
                each.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
        return report

    async def _differing(self, report: Report, *, deep: bool) -> AsyncGenerator[list[str], None]:
        """Portions of products that are not as they should be at a first look."""
        last: UUID | None = None
        low = _FIRST
        while low != _LAST:
            state = await self.catalog.after(last, self.portion)
            truth = {} if state is None else digests(state, report.index)
            full = state is not None and len(state.products) == self.portion
            last = max(state.products) if state is not None and full else None
            high = _LAST if last is None else str(last)
            report.products += len(truth)
            suspects = await self._range(report, low, high, truth, deep=deep)
            for first in range(0, len(suspects), self.portion):
                yield suspects[first : first + self.portion]
            low = high

    async def _range(
        self, report: Report, low: str, high: str, truth: dict[str, int | None], *, deep: bool
    ) -> list[str]:
        report.ranges += 1
        query = {"range": {"id": {"gt": low, "lte": high}}}
        if not deep:
            expected = [each for each in truth.values() if each is not None]
            whole = len(expected) == len(truth)
            if whole and await self._sum(report.index, query) == (len(expected), sum(expected)):
                return []
        report.differing_ranges += 1
        return await self._suspects(report.index, query, truth, deep=deep)

    async def _sum(self, index: str, query: Any) -> tuple[int, int]:
        body = {
            "size": 0, "query": query, "track_total_hits": True, "aggs": {"digests": {"sum": {"field": "digest"}}},
        }  # fmt: skip
        found = await self.engine.search(index, body)
        count = found.hits.total.value if found.hits.total else 0
        # A partial answer would be taken for missing documents; -1 makes the range one to look at.
        return (-1, 0) if found.partial else (count, int(found.aggregations["digests"]["value"]))

    async def _suspects(self, index: str, query: Any, truth: dict[str, int | None], *, deep: bool) -> list[str]:
        there: dict[str, int] = {}
        async for hit in self.engine.scan(index, query, source=True if deep else ["digest"]):
            said = int(hit.source.get("digest", -1))
            there[hit.id] = said if not deep or said == documents.digest(hit.source) else -1
        return sorted(each for each in {*truth, *there} if each not in there or truth.get(each) != there[each])

    async def _judge(self, report: Report, suspects: list[str]) -> None:
        """Look again until each suspect is as it should be, or wrong while the truth stood still. What was written counts as
        repaired once it is right, and as open only if it stays wrong by the same rule: a change may come after the write, too.
        """
        known = await self._truths(report.index, suspects) if suspects else {}
        written: dict[str, Kind] = {}
        for _ in range(LOOKS):
            if not suspects:
                return
            await self.sleep(self.settle)
            truths, wrong = await self._wrong(report.index, suspects)
            standing = {each: kind for each, kind in wrong.items() if known[each] == truths[each]}
            for each in [each for each in suspects if each in written]:
                if each not in wrong:
                    report.findings.append(Finding(written[each], each, True))
                elif each in standing:
                    report.findings.append(Finding(standing.pop(each), each, False, OF_LATER))
            suspects, known = [each for each in wrong if known[each] != truths[each]], truths
            if self.writer is None:
                report.findings += [Finding(kind, each) for each, kind in standing.items()]
            elif standing:
                again = await self._repaired(report, standing, self.writer)
                written |= {each: standing[each] for each in again}
                suspects, known = [*suspects, *again], known | again
        report.unsettled += len(suspects)

    async def _wrong(self, index: str, products: Sequence[str]) -> tuple[Truths, dict[str, Kind]]:
        truths = await self._truths(index, products)
        there = await self.engine.mget(index, products)
        kinds = {each: _kind(truths[each], document) for each, document in zip(products, there, strict=True)}
        return truths, {each: kind for each, kind in kinds.items() if kind is not None}

    async def _repaired(self, report: Report, wrong: dict[str, Kind], writer: Writes) -> Truths:
        """Write them; those that still differ right after, with what was true then, are for another look."""
        outcome = await writer.write(await self.catalog.these([UUID(each) for each in wrong]), [report.index])
        refused = {str(each.product): f"{each.kind}: {each.reason}" for each in outcome.refused}
        truths, still = await self._wrong(report.index, list(wrong))
        for each, kind in wrong.items():
            if each in refused:
                report.findings.append(Finding(kind, each, False, refused[each]))
            elif each not in still:
                report.findings.append(Finding(kind, each, True))
        return {each: truths[each] for each in still if each not in refused}

    async def _truths(self, index: str, products: Sequence[str]) -> Truths:
        state = await self.catalog.these([UUID(each) for each in products])
        found: Truths = dict.fromkeys(products)
        for product, row in state.products.items():
            if row is not None:
                found[str(product)] = _digest(row, index)
        return found


async def _one_less(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Those that still run when one has ended, whose error is raised."""
    done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()
    return running


def digests(state: State, index: str) -> dict[str, int | None]:
    """Of the documents that the index should hold; None for a product that no index can hold."""
    found: dict[str, int | None] = {}
    for product, row in state.products.items():
        if row is not None:
            mark = _digest(row, index)
            found[str(product)] = mark if isinstance(mark, int) else None
    return found


def _digest(row: documents.ProductRow, index: str) -> int | str:
    """A text says why there is no document."""
    try:
        whole = documents.document(row)
    except Unprocessable as why:
        return why.detail
    fields = fields_of(index)
    return documents.digest({name: value for name, value in whole.items() if name in fields})


def _kind(truth: int | str | None, there: Document) -> Kind | None:
    if isinstance(truth, str):
        return Kind.UNINDEXABLE
    if truth is None:
        return Kind.EXTRA if there.found else None
    if not there.found:
        return Kind.MISSING
    said = there.source.get("digest")
    return None if said == truth == documents.digest(there.source) else Kind.STALE


def lines(report: Report, shown: int = 100) -> Iterable[str]:
    """For people: each finding, then the sum."""
    for each in report.findings[:shown]:
        ending = {None: "", True: " repaired", False: f" not repaired ({each.why})"}[each.repaired]
        yield f"{each.kind.value} {each.product}{ending}"
    if len(report.findings) > shown:
        yield f"... and {len(report.findings) - shown} more"
    counts = ", ".join(f"{sum(each.kind is kind for each in report.findings)} {kind.value}" for kind in Kind)
    yield (
        f"{report.index}: {report.products:,} products in {report.ranges:,} ranges, {report.differing_ranges:,} differed: "
        f"{counts}, {report.unsettled} changed at every look"
    )
