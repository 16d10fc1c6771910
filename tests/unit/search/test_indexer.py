"""What a batch of records leads to; and that a reindex under way loses no change, whatever the order of events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence, Set
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from aiokafka import ConsumerRecord

from services.kit.consumer import Record
from services.patterns.backoff import Backoff
from services.patterns.dlq import Unprocessable
from services.search import mappings
from services.search.audit import Auditor, Finding, Kind, Report
from services.search.engine import Engine
from services.search.indexer import MOST_LETTERS, Indexer, read_changes, read_reference
from services.search.indices import Indices
from services.search.reindex import NotReady, Reindexer
from services.search.store.catalog import Catalog, State
from services.search.store.reindexes import Reindex, ReindexState, ReindexStore
from services.search.writer import Outcome, Writer
from tests.unit.search.memory import MemoryDatabase, MemoryEngine, Turns, product

NOW = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)
NEXT = datetime(2026, 2, 1, tzinfo=UTC)


class FixedClock:
    def now(self) -> datetime:
        return NEXT

    def monotonic(self) -> float:
        return 0.0


def record(key: bytes | None, value: bytes | None, offset: int = 0) -> Record:
    return ConsumerRecord("catalog.product-changes.v1", 0, offset, 0, 0, key, value, None, 0, 0, ())


def change(number: int, xid: int | None = None, table: str = "products", op: str = "u", **more: Any) -> Record:
    body = {"op": op, "source": {"table": table, "lsn": 1, "txId": xid}, "before": None, "after": {}, **more}
    return record(str(UUID(int=number)).encode(), msgspec.json.encode(body))


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


@dataclass
class World:
    """One database, one engine, one index, and the parts that work on them."""

    seed: int | None = None
    database: MemoryDatabase = field(init=False)
    engine: MemoryEngine = field(init=False)
    indices: Indices = field(init=False)
    writer: Writer = field(init=False)
    first: str = ""

    def __post_init__(self) -> None:
        turns = Turns(None if self.seed is None else random.Random(self.seed))
        self.database, self.engine = MemoryDatabase(turns), MemoryEngine(turns)
        self.indices = Indices(cast("Engine", self.engine), "")
        self.writer = Writer(self.engine, 1 << 20, 5, Backoff(1, 8), None, random.Random(1), no_sleep)

    async def install(self) -> World:
        self.first = await self.indices.install(NOW)
        return self

    def indexer(self, kind: type[Indexer] = Indexer) -> Indexer:
        return kind(cast("Catalog", self.database), self.indices, self.writer, 3, no_sleep)

    def content(self, index: str) -> dict[str, dict[str, Any]]:
        return self.engine.indices[index].sources()

    def prices(self, index: str) -> dict[UUID, int]:
        return {UUID(name): source["price"] for name, source in self.content(index).items()}

    def truth(self) -> dict[UUID, int]:
        return {name: row.price for name, row in self.database.rows.items()}


async def test_a_change_makes_the_index_show_the_product() -> None:
    world = await World().install()
    xid = world.database.put(product(7, price=5))
    assert await world.indexer().changes([change(7, xid)]) == []
    assert world.prices(world.first) == {UUID(int=7): 5}


async def test_a_delete_and_its_tombstone_take_the_product_out() -> None:
    world = await World().install()
    xid = world.database.put(product(7))
    await world.indexer().changes([change(7, xid)])
    xid = world.database.put(None, UUID(int=7))
    await world.indexer().changes([change(7, xid, op="d", after=None), record(str(UUID(int=7)).encode(), None)])
    assert world.content(world.first) == {}


async def test_a_commit_that_is_in_the_log_and_not_yet_visible_is_waited_for() -> None:
    world = await World(seed=3).install()
    committing = asyncio.create_task(world.database.commit(UUID(int=7), product(7, price=9)))
    while not world.database.log:  # noqa: ASYNC110  # a turn of the event loop is the unit here
        await asyncio.sleep(0)
    ((xid, _),) = world.database.log
    assert not world.database.now().shows(xid)
    await world.indexer().changes([change(7, xid)])
    assert world.prices(world.first) == {UUID(int=7): 9}
    await committing


@pytest.mark.parametrize(
    "key", [None, b"", b"\xff" * 36, b"7", b'{"id":"7"}', b"x" * 100_000, str(UUID(int=1)).encode() + b"0"]
)
async def test_a_key_that_is_no_product_is_parked_and_the_rest_goes_on(key: bytes | None) -> None:
    world = await World().install()
    xid = world.database.put(product(7))
    parked = await world.indexer().changes([record(key, b"{}", 4), change(7, xid)])
    assert [(each.reason, each.offset, each.key) for each in parked] == [("malformed_key", 4, key)]
    assert len(world.content(world.first)) == 1


@pytest.mark.parametrize(
    "value", [b"", b"\x00\xff", b"[]", b"{}", b'{"op":"x"}', b"[" * 10_000, b'{"op":"u","source":{"table":1}}', b"\xef"]
)
async def test_a_body_that_is_no_change_is_parked_and_its_product_is_rebuilt_all_the_same(value: bytes) -> None:
    world = await World().install()
    world.database.put(product(7))
    parked = await world.indexer().changes([record(str(UUID(int=7)).encode(), value)])
    assert [each.reason for each in parked] == ["malformed_body"]
    assert len(world.content(world.first)) == 1


async def test_a_poison_product_is_parked_with_its_cause_and_the_rest_goes_on() -> None:
    world = await World().install()
    world.engine.poison = b"LAM-2"
    for number in range(1, 6):
        world.database.put(product(number))
    parked = await world.indexer().changes([change(number) for number in range(1, 6)])
    assert [(each.key, each.reason) for each in parked] == [(str(UUID(int=2)).encode(), "mapper_parsing_exception")]
    assert world.first in parked[0].detail
    assert len(world.content(world.first)) == 4


async def test_many_changes_of_one_product_are_one_read() -> None:
    world = await World().install()
    world.database.put(product(7))
    await world.indexer().changes([change(7) for _ in range(50)])
    assert world.engine.bulks == [1]


async def test_without_an_index_it_waits_for_one() -> None:
    world = World()
    world.database.put(product(7))
    working = asyncio.create_task(world.indexer().changes([change(7)]))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not working.done()
    await world.install()
    await working
    assert len(world.content(world.first)) == 1


def test_transactions_of_all_records_are_collected() -> None:
    told = read_changes([change(1, 5), change(2, 6), change(1, None), record(str(UUID(int=3)).encode(), None)])
    assert set(told.transactions) == {5, 6}
    assert set(told.products) == {UUID(int=1), UUID(int=2), UUID(int=3)}


@pytest.mark.parametrize("xid", [10**6, 2**32 + 7, 2**63, 10**30])
async def test_a_transaction_that_the_database_never_had_is_not_waited_for(xid: int) -> None:
    world = await World().install()
    real = world.database.put(product(7, price=5))
    world.database.put(product(8, price=6))
    parked = await world.indexer().changes([change(7, real), change(8, xid)])
    assert [(each.key, each.reason) for each in parked] == [(str(UUID(int=8)).encode(), "unknown_transaction")]
    assert world.prices(world.first) == {UUID(int=7): 5, UUID(int=8): 6}


async def test_a_change_of_a_brand_by_a_transaction_that_never_was_is_parked() -> None:
    world = await World().install()
    world.database.put(product(7, brand_id=4))
    indexer = world.indexer()
    assert [each.reason for each in await indexer.references([reference("brands", xid=10**6)])] == [
        "unknown_transaction"
    ]
    assert len(world.content(world.first)) == 1
    assert indexer.unknown == set()


def reference(table: str, op: str = "u", after: Any = None, xid: int | None = None) -> Record:
    body = {"op": op, "source": {"table": table, "txId": xid}, "after": after if after is not None else {"id": 4}}
    return record(b"4", msgspec.json.encode(body))


async def test_a_brand_that_changed_is_brought_to_all_its_products_in_portions() -> None:
    world = await World().install()
    for number in range(1, 12):
        world.database.put(product(number, brand_id=4 if number % 2 else 5, brand="New"))
    assert await world.indexer().references([reference("brands")]) == []
    assert len(world.content(world.first)) == 6
    assert world.engine.bulks == [3, 3]


@pytest.mark.parametrize("op", ["c", "r", "d"])
def test_a_brand_that_is_new_or_gone_has_no_products(op: str) -> None:
    assert read_reference(reference("brands", op))[1] is None


def test_the_tombstone_of_a_brand_says_nothing() -> None:
    assert read_reference(record(b"4", None))[1] is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(b"4", b"\xff"), "malformed_body"),
        (record(b"4", b"[]"), "malformed_body"),
        (reference("products"), "unknown_table"),
        (reference("brands", after={"id": "4"}), "malformed_body"),
        (reference("brands", after={"name": "x"}), "malformed_body"),
        (reference("brands", after={"id": True}), "malformed_body"),
        (reference("brands", after={"id": 0}), "malformed_body"),
        (reference("brands", after={"id": 2**31}), "malformed_body"),
        (record(b"4", b'{"op":"u","x":' + b"[" * 100_000), "malformed_body"),
    ],
)
async def test_garbage_about_brands_is_parked(bad: Record, reason: str) -> None:
    with pytest.raises(Unprocessable, match=reason):
        read_reference(bad)
    world = await World().install()
    assert [each.reason for each in await world.indexer().references([bad])] == [reason]


async def test_a_brand_of_many_poison_products_parks_its_record_a_few_times_only() -> None:
    world = await World().install()
    world.engine.poison = b"LAM-"
    for number in range(1, 30):
        world.database.put(product(number, brand_id=4))
    assert len(await world.indexer().references([reference("brands")])) == MOST_LETTERS


# A reindex while products change: every order of events that chance finds.


@dataclass
class MemoryReindexes:
    """The store of reindexes."""

    made: list[Reindex] = field(default_factory=list)

    def alone(self) -> Any:
        return self

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def active(self) -> Reindex | None:
        over = (ReindexState.SWAPPED, ReindexState.ABANDONED)
        return next((each for each in self.made if each.state not in over), None)

    async def recent(self, limit: int = 5) -> list[Reindex]:
        return list(reversed(self.made))[:limit]

    async def begin(self, index_name: str, mapping: int) -> Reindex:
        made = Reindex(len(self.made), index_name, mapping, ReindexState.COPYING, None, 0, 0, NOW, NOW)
        self.made.append(made)
        return made

    async def copied(self, reindex: int, last: UUID, documents: int) -> None:
        old = self.made[reindex]
        self.made[reindex] = replace(old, last_id=last, copied=old.copied + documents)

    async def move(self, reindex: int, state: ReindexState, repaired: int = 0) -> None:
        old = self.made[reindex]
        self.made[reindex] = replace(old, state=state, repaired=old.repaired + repaired)


class NoAudit:
    """Finds nothing, so that what the copy loses stays lost."""

    async def audit(self, index: str) -> Report:
        return Report(index)


def reindexer(world: World, auditor: Any, store: Any = None) -> Reindexer:
    return Reindexer(
        world.database, cast("ReindexStore", store or MemoryReindexes()), world.indices, world.writer, auditor,
        FixedClock(), 4, 1e6, lambda _: None, no_sleep,
    )  # fmt: skip


async def simulated(seed: int, kind: type[Indexer] = Indexer) -> tuple[World, str]:
    """Products change while an index is built; return the world when all is quiet, and the new index."""
    chance = random.Random(seed)
    world = await World(seed).install()
    for number in range(1, 60):
        world.database.put(product(number))
    await world.indexer().changes([change(each.int, xid) for xid, each in world.database.log])
    known = len(world.database.log)
    over = asyncio.Event()

    async def change_products(whose: int) -> None:
        for step in range(25):
            number = chance.randrange(whose, 90, 3)
            gone = chance.random() < 0.3
            await world.database.commit(
                UUID(int=number), None if gone else product(number, price=100 * whose + step + 1)
            )

    async def index(partition: int) -> None:
        """One partition's consumer, which sees each record twice now and then."""
        place = 0
        while True:
            mine = [each for each in world.database.log[known:] if each[1].int % 2 == partition]
            batch = mine[place : place + chance.randrange(1, 4)]
            if not batch and over.is_set():
                return
            if not batch:
                await asyncio.sleep(0)
                continue
            await world.indexer(kind).changes([change(each.int, xid) for xid, each in batch])
            place += len(batch) if chance.random() < 0.8 else 0

    async def changes() -> None:
        await asyncio.gather(*(change_products(whose) for whose in (0, 1, 2)))

    async def reindex() -> str:
        for _ in range(chance.randrange(200)):
            await asyncio.sleep(0)
        return (await reindexer(world, NoAudit()).run(None)).index_name

    consumers = [asyncio.create_task(index(partition)) for partition in (0, 1)]
    _, name = await asyncio.gather(changes(), reindex())
    over.set()
    await asyncio.gather(*consumers)
    return world, name


@pytest.mark.parametrize("block", range(10))
async def test_a_reindex_under_changes_ends_with_two_indices_that_are_as_the_database_is(block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        world, name = await simulated(seed)
        assert name != world.first
        assert await world.indices.reading() == name
        assert world.prices(name) == world.truth(), f"new index, seed {seed}"
        assert world.prices(world.first) == world.truth(), f"old index, seed {seed}"


async def test_a_reindex_keeps_to_its_rate_from_the_first_second_on() -> None:
    world = await World().install()
    for number in range(40):
        world.database.put(product(number))
    seconds = 0.0

    async def sleep(wanted: float) -> None:
        nonlocal seconds
        seconds += wanted

    limited = replace(reindexer(world, NoAudit()), rate=10.0, sleep=sleep, monotonic=lambda: seconds)
    await limited.run(None)
    assert seconds > (40 - limited.portion) / limited.rate - 0.01


class AsksFirst(Indexer):
    """Asks which indices get changes before it reads the products."""

    async def changes(self, records: Sequence[Record]) -> Any:
        self.known = await self.indices.writing()
        return await super().changes(records)

    async def _write(self, state: State) -> Outcome:
        return await self.writer.write(state, self.known)


class DoesNotWait(Indexer):
    """Takes a commit in the log for one that is visible."""

    async def rebuild(self, products: Sequence[UUID], transactions: Set[int]) -> Any:
        return await super().rebuild(products, frozenset())


async def test_an_indexer_that_does_not_wait_is_caught() -> None:
    for seed in range(50):
        world, name = await simulated(seed, DoesNotWait)
        if world.prices(name) != world.truth():
            return
    pytest.fail("Fifty reindexes under changes, and none was wrong.")


async def reindexed_while_a_commit_becomes_visible(kind: type[Indexer]) -> tuple[World, str]:
    """A commit is in the log, and told of, before a reindex begins; it is visible after the copy."""
    world = await World().install()
    world.database.put(product(7, price=1))
    xid = world.database._begin()
    working = asyncio.create_task(world.indexer(kind).changes([change(7, xid)]))
    world.database.last_completed = xid + 1  # another transaction, which is visible already
    for _ in range(20):
        await asyncio.sleep(0)
    name = (await reindexer(world, NoAudit()).run(None)).index_name
    assert world.prices(name) == {UUID(int=7): 1}
    world.database._apply(xid, UUID(int=7), product(7, price=2))
    await working
    return world, name


async def test_a_commit_that_the_copy_did_not_see_reaches_the_new_index() -> None:
    world, name = await reindexed_while_a_commit_becomes_visible(Indexer)
    assert world.prices(name) == world.prices(world.first) == {UUID(int=7): 2}


async def test_an_indexer_that_asks_for_its_indices_before_it_reads_is_caught() -> None:
    world, name = await reindexed_while_a_commit_becomes_visible(AsksFirst)
    assert world.prices(name) == {UUID(int=7): 1}


async def test_of_two_states_the_later_one_stays_whichever_is_written_last() -> None:
    world = await World().install()
    world.database.put(product(7, price=1))
    stale = await world.database.these([UUID(int=7)])
    world.database.put(product(7, price=2))
    fresh = await world.database.these([UUID(int=7)])
    assert fresh.snapshot.version > stale.snapshot.version
    await world.writer.write(fresh, [world.first])
    await world.writer.write(stale, [world.first])
    assert world.prices(world.first) == {UUID(int=7): 2}


async def test_a_reindex_that_was_cut_goes_on_where_it_was() -> None:
    world, store = await World().install(), MemoryReindexes()
    for number in range(1, 30):
        world.database.put(product(number))

    class Cut(Exception):
        pass

    calls = 0
    original = world.writer.write

    async def cut(state: State, indices: Sequence[str]) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Cut
        return await original(state, indices)

    interrupted = reindexer(world, NoAudit(), store)
    interrupted.writer = cast("Writer", type("Cutting", (), {"write": staticmethod(cut)})())
    with pytest.raises(Cut):
        await interrupted.run(None)
    (begun,) = store.made
    assert begun.copied == 12
    ended = await reindexer(world, NoAudit(), store).run(None)
    assert (ended.index_name, ended.copied, ended.state) == (begun.index_name, 29, ReindexState.SWAPPED)
    assert world.prices(ended.index_name) == world.truth()


async def test_a_reindex_repairs_what_it_finds_wrong_before_queries_see_it() -> None:
    world = await World().install()
    for number in range(1, 30):
        world.database.put(product(number))
    auditor = Auditor(world.engine, world.database, 10, 0, world.writer, no_sleep)

    class Loses(MemoryReindexes):
        async def copied(self, reindex: int, last: UUID, documents: int) -> None:
            await super().copied(reindex, last, documents)
            world.engine.indices[self.made[reindex].index_name].documents.pop(str(UUID(int=5)), None)

    ended = await reindexer(world, auditor, Loses()).run(None)
    assert ended.repaired == 1
    assert world.prices(ended.index_name) == world.truth()


class Audits:
    """Says what it was told to, one report after the other, then that all is well."""

    def __init__(self, *repaired: bool | None) -> None:
        self.left = list(repaired)
        self.asked = 0

    async def audit(self, index: str) -> Report:
        self.asked += 1
        found = [Finding(Kind.STALE, str(UUID(int=5)), self.left.pop(0))] if self.left else []
        return Report(index, findings=found)


@pytest.mark.parametrize("repaired", [(), (True,), (True, True)])
async def test_what_was_repaired_is_not_looked_for_again(repaired: tuple[bool, ...]) -> None:
    world, auditor = await World().install(), Audits(*repaired)
    ended = await reindexer(world, auditor).run(None)
    assert (auditor.asked, ended.repaired) == (1, len(repaired[:1]))


async def test_an_index_with_what_cannot_be_repaired_is_not_put_in_place() -> None:
    world, auditor = await World().install(), Audits(False)
    with pytest.raises(NotReady, match="1 products are not in"):
        await reindexer(world, auditor).run(None)
    assert auditor.asked == 1
    assert await world.indices.reading() == world.first


@pytest.fixture
def two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 has forgotten the model, and takes prices for texts."""
    first = mappings.load(1).body
    (tmp_path / "v1.json").write_bytes(msgspec.json.encode(first))
    second = deepcopy(first)
    del second["mappings"]["properties"]["model"]
    second["mappings"]["properties"]["price"] = {"type": "keyword"}
    (tmp_path / "v2.json").write_bytes(msgspec.json.encode(second))
    monkeypatch.setattr(mappings, "FOLDER", tmp_path)


@pytest.mark.usefixtures("two_versions")
async def test_an_incompatible_mapping_gets_an_index_of_its_own_and_each_index_the_fields_it_knows() -> None:
    world = World()
    old = world.indices.name(1, NOW)
    await world.engine.create_index(old, {**mappings.load(1).body, "aliases": {"products": {}, "products-write": {}}})
    for number in range(1, 10):
        world.database.put(product(number))
    state = await world.database.after(None, 100)
    assert state is not None
    await world.writer.write(state, [old])
    ended = await reindexer(world, Auditor(world.engine, world.database, 10, 0, world.writer, no_sleep)).run(None)
    assert ended.mapping == 2
    xid = world.database.put(product(3, price=333))
    await world.indexer().changes([change(3, xid)])
    assert world.prices(old) == world.prices(ended.index_name) == world.truth()
    assert all("model" in source for source in world.content(old).values())
    assert not any("model" in source for source in world.content(ended.index_name).values())
    assert (await Auditor(world.engine, world.database, 10, 0).audit(old)).findings == []
