"""Keeps the indices as the catalogue's database is, told by its log. Any number of indexers may run.

A record says only *that* a product changed, and by which transaction. The product is then read whole, by one statement that
shows that transaction, and written with the version of that statement's snapshot: records that are late, doubled or out of
order lead to the same document, and none of them can put an older state over a newer one (services.search.snapshot).

The order within a batch is what makes a reindex lose nothing: read the products, *then* ask which indices get changes, then
write, then commit the offsets. A reindex lets changes go to its index first and reads products afterwards; so a change that
its reading did not see was read here after that, and went to its index, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from uuid import UUID

import msgspec
from fastapi import FastAPI

from services.contracts import topics
from services.contracts.catalog import change_of, product_of
from services.contracts.topics import Topic
from services.kit import failpoint as failpoint_kit
from services.kit import postgres
from services.kit.consumer import Effect, Observer, Reading, Record, TopicConsumer
from services.kit.current import Current
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, service_app
from services.kit.kafka import dead_letter
from services.kit.settings import ProcessSettings
from services.kit.store import Pool, StoreUnavailable
from services.patterns.backoff import Backoff
from services.patterns.dlq import DeadLetter, Unprocessable
from services.search import failpoints, metrics, traces
from services.search.engine import Engine, EngineBusy, EngineDown
from services.search.indices import Indices
from services.search.settings import IndexerSettings, IndexSettings
from services.search.snapshot import Snapshot
from services.search.store.catalog import NOBODY, Catalog, State
from services.search.writer import Outcome, Refused, Writer

log = logging.getLogger(__name__)

GROUP = "search.indexer"
REFERENCE_GROUP = "search.indexer-references"
AWAY_SECONDS = 0.5
INVISIBLE_SECONDS = 0.005
"""A commit is visible microseconds after it is in the log, but for a synchronous standby that is slow."""
INVISIBLE_LIMIT_SECONDS = 1.0
MOST_LETTERS = 10
"""A record about a brand is parked so often at most, however many of its products are refused."""

LARGEST_ROW = 2**31 - 1
"""Ids of brands and categories."""
_NEVER_BEGUN = Unprocessable(
    "unknown_transaction", "The database has not had this transaction; after a restore of it, reindex."
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """What a batch of records says: products, the last record of each, and the transactions that must be visible."""

    products: dict[UUID, Record]
    transactions: dict[int, Record]
    causes: dict[UUID, set[str]]
    """The traces that changed them."""
    parked: list[DeadLetter]


def read_changes(records: Iterable[Record]) -> Told:
    """Of `catalog.product-changes.v1`. A record with a good key and a bad body is parked *and* its product rebuilt."""
    products: dict[UUID, Record] = {}
    transactions: dict[int, Record] = {}
    causes: dict[UUID, set[str]] = {}
    parked: list[DeadLetter] = []
    for record in records:
        try:
            product = product_of(record.key)
        except ValueError:
            why = Unprocessable("malformed_key", "The key is no product id.")
            parked.append(dead_letter(record, why))
            continue
        products[product] = record
        try:
            change = change_of(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            why = Unprocessable("malformed_body", "The body is no change as Debezium tells it.")
            parked.append(dead_letter(record, why))
            continue
        if change is None:
            continue
        if change.source.txId is not None:
            transactions[change.source.txId] = record
        if (cause := traces.cause_of(change)) is not None:
            causes.setdefault(product, set()).add(cause)
    return Told(products, transactions, causes, parked)


@dataclass(slots=True)
class Indexer:
    """What the feeds do with their batches."""

    catalog: Catalog
    indices: Indices
    writer: Writer
    portion: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    unknown: set[int] = field(default_factory=set)
    """Transactions of the records under way that the database has never had: nobody can wait for them."""

    async def changes(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Rebuild the products of these records; return what is set aside."""
        told = read_changes(records)
        parked = told.parked
        causes = (cause for each in told.causes.values() for cause in each)
        with traces.batch_of(records[0].topic, GROUP, len(records), causes) as batch:
            for refused in await self.rebuild(sorted(told.products), told.transactions.keys()):
                why = _why(refused)
                batch.refused(told.causes.get(refused.product, ()), why.reason)
                parked.append(dead_letter(told.products[refused.product], why))
        parked += [dead_letter(told.transactions[each], _NEVER_BEGUN) for each in self._forgotten(told.transactions)]
        return parked

    async def references(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Rebuild the products of the brands and categories of these records, a portion at a time."""
        with traces.batch_of(records[0].topic, REFERENCE_GROUP, len(records), ()):
            return await self._references(records)

    async def _references(self, records: Sequence[Record]) -> list[DeadLetter]:
        parked: list[DeadLetter] = []
        for record in records:
            try:
                table, row, transaction = read_reference(record)
            except Unprocessable as why:
                parked.append(dead_letter(record, why))
                continue
            if row is not None:
                refused = await self._fan_out(table, row, transaction)
                parked += [dead_letter(record, _why(each)) for each in refused[:MOST_LETTERS]]
                parked += [dead_letter(record, _NEVER_BEGUN) for _ in self._forgotten({transaction})]
        return parked

    async def rebuild(self, products: Sequence[UUID], transactions: Set[int]) -> list[Refused]:
        """Make all indices show these products as they are now or later; `transactions` will be visible. Waits for all."""
        refused: dict[UUID, Refused] = {}
        for first in range(0, len(products), self.portion):
            some = products[first : first + self.portion]
            state = await self._seeing(partial(self.catalog.these, some), lambda state: state.snapshot, transactions)
            await failpoint(failpoints.INDEXER_AFTER_READ)
            outcome = await self._write(state)
            refused |= {each.product: each for each in outcome.refused}
        return list(refused.values())

    async def _fan_out(self, table: str, row: int, transaction: int | None) -> list[Refused]:
        step = self.catalog.of_brand if table == "brands" else self.catalog.of_category
        visible = frozenset() if transaction is None else frozenset({transaction})
        await self._seeing(self.catalog.snapshot, lambda snapshot: snapshot, visible)
        refused: list[Refused] = []
        last = NOBODY
        while products := await self._patiently(partial(step, row, last, self.portion)):
            refused += await self.rebuild(products, visible)
            last = products[-1]
        return refused

    async def _seeing(
        self, ask: Callable[[], Awaitable[T]], snapshot_of: Callable[[T], Snapshot], transactions: Set[int]
    ) -> T:
        """Ask until the answer shows these, or until it is clear which of them never will be: those are `unknown` then."""
        wait = INVISIBLE_SECONDS
        while True:
            found = await self._patiently(ask)
            snapshot = snapshot_of(found)
            missing = {each for each in transactions - self.unknown if not snapshot.shows(each)}
            if missing and wait >= INVISIBLE_LIMIT_SECONDS:
                begun = {each for each in missing if await self._patiently(partial(self._begun, snapshot, each))}
                self.unknown |= missing - begun
                missing = begun
            if not missing:
                return found
            metrics.INVISIBLE.inc()
            await self.sleep(wait)
            wait = min(wait * 2, INVISIBLE_LIMIT_SECONDS)

    async def _begun(self, snapshot: Snapshot, transaction: int) -> bool:
        return await self.catalog.begun(snapshot.whole(transaction))

    def _forgotten(self, transactions: Iterable[int | None]) -> set[int]:
        """Those of them that are unknown; they are known to be so no longer, since the ids are given out some day."""
        found = self.unknown.intersection(each for each in transactions if each is not None)
        self.unknown -= found
        return found

    async def _write(self, state: State) -> Outcome:
        while not (indices := await self._patiently(self.indices.writing)):
            log.warning("there is no index to write to; `python -m services.search migrate` makes one")
            await self.sleep(AWAY_SECONDS)
        metrics.WRITE_INDICES.set(len(indices))
        return await self.writer.write(state, indices)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except (StoreUnavailable, EngineDown, EngineBusy) as error:
                log.warning("the database or the engine is away; the topic waits", extra={"error": str(error)})
                await self.sleep(AWAY_SECONDS)


def read_reference(record: Record) -> tuple[str, int | None, int | None]:
    """(table, row, transaction) of `catalog.reference-changes.v1`; no row for what concerns no product.

    A new brand or category has no products yet, and one that is deleted none any more.
    """
    try:
        change = change_of(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unprocessable("malformed_body", "The body is no change as Debezium tells it.") from None
    if change is None:
        return "", None, None
    if change.source.table not in ("brands", "categories"):
        raise Unprocessable("unknown_table", "The change is of no table that products refer to.")
    row = (change.after or {}).get("id")
    if change.op != "u":
        return change.source.table, None, None
    if isinstance(row, bool) or not isinstance(row, int) or not 0 < row <= LARGEST_ROW:
        raise Unprocessable("malformed_body", "The change does not say of which row it is.")
    return change.source.table, row, change.source.txId


def _why(refused: Refused) -> Unprocessable:
    return Unprocessable(refused.kind or "refused", f"{refused.index or 'every index'}: {refused.reason}")


def writer_of(engine: Engine, settings: IndexSettings, patience: float | None = None) -> Writer:
    """With the bounds of the settings."""
    return Writer(engine, settings.bulk_bytes, settings.bulk_timeout_seconds, backoff_of(settings), patience)


def backoff_of(settings: IndexSettings) -> Backoff:
    """Between two tries of the same request."""
    return Backoff(settings.backoff_seconds, max(settings.backoff_limit_seconds, settings.backoff_seconds))


def create_worker(process: ProcessSettings, settings: IndexerSettings) -> tuple[FastAPI, Tasks]:
    """The indexer process."""
    failpoint_kit.register(*failpoints.INDEXER)
    tasks, reading, writing = Tasks(), Current[dict[str, TopicConsumer]](), Current[Indices]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine = Engine(settings.engine_urls, timeout=settings.engine_timeout_seconds)
        async with engine, await _pool(settings) as pool:
            catalog = Catalog(pool)
            await catalog.check()
            indices = Indices(engine, process.lab_prefix)
            indexer = Indexer(catalog, indices, writer_of(engine, settings), settings.portion)
            with writing.holding(indices), reading.holding(_feeds(process.lab_prefix, settings, indexer)) as feeds:
                for name, feed in feeds.items():
                    tasks.start(name, feed.run())
                yield
                await asyncio.gather(*(feed.drain(process.drain_seconds) for feed in feeds.values()))
                await tasks.stop()

    checks = {
        "broker": reading.ready(lambda feeds: all(feed.broker_ok for feed in feeds.values())),
        "index": writing.ready(lambda indices: indices.writable()),
    }
    return service_app("search-indexer", process, lifespan=lifespan, checks=checks), tasks


@dataclass(frozen=True, slots=True)
class FeedObserver(Observer):
    """Keeps the metrics of one feed, and may be made to die between two steps."""

    feed: str
    topic: str

    def waiting(self, records: int) -> None:
        metrics.LAG.labels(self.feed).set(records)

    def held(self, whether: bool) -> None:
        metrics.HELD.labels(self.feed).set(whether)

    def taken(self, records: int) -> None:
        metrics.RECORDS.labels(self.feed, "taken").inc(records)

    def parked(self, letter: DeadLetter) -> None:
        metrics.RECORDS.labels(self.feed, "parked").inc()
        metrics.PARKED.labels(letter.reason).inc()

    async def polled(self) -> None:
        await failpoint(failpoints.INDEXER_AFTER_POLL, self.topic)

    async def done(self) -> None:
        await failpoint(failpoints.INDEXER_AFTER_BULK, self.topic)

    async def committed(self) -> None:
        await failpoint(failpoints.INDEXER_AFTER_COMMIT, self.topic)


def _feeds(prefix: str, settings: IndexerSettings, indexer: Indexer) -> dict[str, TopicConsumer]:
    def feed(name: str, topic: Topic, dlq: Topic, group: str, effect: Effect) -> TopicConsumer:
        reading = Reading(
            f"search-indexer-{name}",
            settings.kafka_bootstrap,
            prefix + topic.name,
            prefix + dlq.name,
            prefix + group,
            batch=settings.indexer_batch,
            hold=settings.hold_seconds,
            session=settings.session_seconds,
        )
        return TopicConsumer(reading, effect, observer=FeedObserver(name, reading.topic))

    changes, references = topics.CATALOG_PRODUCT_CHANGES, topics.CATALOG_REFERENCE_CHANGES
    return {
        "products": feed("products", changes, topics.CATALOG_PRODUCT_CHANGES_DLQ, GROUP, indexer.changes),
        "references": feed(
            "references", references, topics.CATALOG_REFERENCE_CHANGES_DLQ, REFERENCE_GROUP, indexer.references
        ),
    }


async def _pool(settings: IndexSettings) -> Pool:
    return await postgres.create_pool(
        settings.catalog_database_url.get_secret_value(),
        name="search-indexer",
        minimum=1,
        maximum=4,
        statement_timeout_ms=20_000,
    )
