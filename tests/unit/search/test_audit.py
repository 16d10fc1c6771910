"""Every kind of disagreement is named and repaired; what is merely on its way is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import msgspec
import pytest

from services.search.audit import AT_ONCE, Auditor, Kind, Report, lines
from services.search.documents import document, encoded
from services.search.engine import EngineDown
from services.search.indices import fields_of
from services.search.snapshot import Snapshot
from services.search.store.catalog import State
from services.search.writer import Outcome
from tests.unit.search.memory import Kept, product
from tests.unit.search.test_indexer import World, no_sleep


def auditor(world: World, *, repair: bool = False, portion: int = 10) -> Auditor:
    return Auditor(world.engine, world.database, portion, 0, world.writer if repair else None, no_sleep)


async def filled(products: int = 35) -> World:
    """An index that is as the database is."""
    world = await World().install()
    for number in range(1, products + 1):
        world.database.put(product(number))
    state = await world.database.after(None, products)
    if state is not None:
        await world.writer.write(state, [world.first])
    return world


def name(number: int) -> str:
    return str(UUID(int=number))


def overwrite(world: World, number: int, **fields: object) -> None:
    """Change a document behind the writer's back, and leave its digest."""
    documents = world.engine.indices[world.first].documents
    kept = documents[name(number)]
    body = msgspec.json.decode(kept.body or b"") | fields
    documents[name(number)] = Kept(kept.version, msgspec.json.encode(body))


def put_old(world: World, number: int, *, version: int = 1) -> None:
    """What a lost change leaves behind: the whole document of before, with its own digest."""
    body = encoded(document(product(number, price=7777)), fields_of(world.first))
    world.engine.indices[world.first].documents[name(number)] = Kept(version, body)


@pytest.mark.parametrize("products", [0, 1, 9, 10, 11, 35])
@pytest.mark.parametrize("deep", [False, True])
async def test_an_index_that_is_as_the_database_is_has_no_findings(products: int, deep: bool) -> None:
    report = await auditor(await filled(products)).audit((await filled(products)).first, deep=deep)
    assert (report.products, report.findings, report.unsettled) == (products, [], 0)


async def test_only_ranges_that_differ_are_looked_at() -> None:
    world = await filled(35)
    put_old(world, 13)
    report = await auditor(world).audit(world.first)
    assert (report.ranges, report.differing_ranges) == (4, 1)


async def test_while_what_differs_is_waited_for_other_ranges_are_compared() -> None:
    world = await filled(35)
    for number in (3, 13, 23, 33):
        put_old(world, number)
    waiting, everybody = 0, asyncio.Event()

    async def wait_for_the_others(_: float) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 4:
            everybody.set()
        await asyncio.wait_for(everybody.wait(), 10)

    report = await replace(auditor(world), sleep=wait_for_the_others).audit(world.first)
    assert {each.product for each in report.findings} == {name(number) for number in (3, 13, 23, 33)}


async def test_only_so_many_portions_are_waited_for_at_once() -> None:
    world = await filled(35)
    for number in range(1, 36):
        put_old(world, number)
    waiting: list[int] = []
    now = 0

    async def count(_: float) -> None:
        nonlocal now
        now += 1
        waiting.append(now)
        await asyncio.sleep(0.001)
        now -= 1

    report = await replace(auditor(world, portion=1), sleep=count).audit(world.first)
    assert (len(report.findings), max(waiting)) == (35, AT_ONCE)


async def test_an_error_while_others_are_waited_for_ends_the_audit_and_them() -> None:
    world = await filled(35)
    put_old(world, 3)
    put_old(world, 13)
    sleeping = asyncio.Event()

    async def first_forever(_: float) -> None:
        if sleeping.is_set():
            raise EngineDown("nobody answers")
        sleeping.set()
        await asyncio.sleep(3600)

    before = asyncio.all_tasks()
    with pytest.raises(EngineDown):
        await replace(auditor(world), sleep=first_forever).audit(world.first)
    assert asyncio.all_tasks() == before


async def test_a_missing_document_is_named() -> None:
    world = await filled()
    del world.engine.indices[world.first].documents[name(10)]
    report = await auditor(world).audit(world.first)
    assert [(each.kind, each.product, each.repaired) for each in report.findings] == [(Kind.MISSING, name(10), None)]


async def test_a_stale_document_is_named() -> None:
    world = await filled()
    put_old(world, 11)
    report = await auditor(world).audit(world.first)
    assert [(each.kind, each.product) for each in report.findings] == [(Kind.STALE, name(11))]


@pytest.mark.parametrize("number", [0, 20, 2**127])
async def test_an_extra_document_is_named_wherever_its_id_lies(number: int) -> None:
    world = await filled()
    world.database.rows.pop(UUID(int=number), None)
    put_old(world, number)
    report = await auditor(world).audit(world.first)
    assert [(each.kind, each.product) for each in report.findings] == [(Kind.EXTRA, name(number))]


async def test_two_mistakes_whose_digests_cancel_each_other_are_seen_by_a_deep_audit() -> None:
    world = await filled()
    one, two = (world.engine.indices[world.first].documents[name(each)] for each in (3, 4))
    swapped = [msgspec.json.decode(each.body or b"") for each in (one, two)]
    swapped[0]["digest"], swapped[1]["digest"] = swapped[1]["digest"], swapped[0]["digest"]
    for number, body in zip((3, 4), swapped, strict=True):
        world.engine.indices[world.first].documents[name(number)] = Kept(1, msgspec.json.encode(body))
    assert (await auditor(world).audit(world.first)).findings == []
    report = await auditor(world).audit(world.first, deep=True)
    assert {each.product for each in report.findings} == {name(3), name(4)}


async def test_content_that_its_digest_does_not_fit_is_seen_by_a_deep_audit() -> None:
    world = await filled()
    overwrite(world, 5, price=1)
    assert (await auditor(world).audit(world.first)).findings == []
    report = await auditor(world, repair=True).audit(world.first, deep=True)
    assert [(each.kind, each.product, each.repaired) for each in report.findings] == [(Kind.STALE, name(5), True)]


async def test_a_repair_mends_every_kind_and_the_next_audit_finds_nothing() -> None:
    world = await filled()
    del world.engine.indices[world.first].documents[name(10)]
    put_old(world, 11)
    put_old(world, 99)
    report = await auditor(world, repair=True).audit(world.first)
    assert {each.kind for each in report.findings} == {Kind.MISSING, Kind.STALE, Kind.EXTRA}
    assert all(each.repaired for each in report.findings)
    assert report.open() == []
    assert (await auditor(world).audit(world.first)).findings == []
    assert world.prices(world.first) == world.truth()


async def test_a_document_from_a_later_life_of_the_database_is_told_and_cannot_be_repaired() -> None:
    world = await filled()
    put_old(world, 11, version=Snapshot(10**9, frozenset()).version)
    report = await auditor(world, repair=True).audit(world.first)
    (finding,) = report.open()
    assert (finding.kind, finding.repaired) == (Kind.STALE, False)
    assert "reindex" in finding.why


async def test_a_product_that_no_index_can_hold_is_named_with_its_cause() -> None:
    world = await filled()
    world.database.put(product(12, attributes=["red"]))
    report = await auditor(world, repair=True).audit(world.first)
    (finding,) = report.open()
    assert (finding.kind, finding.product) == (Kind.UNINDEXABLE, name(12))
    assert "malformed_attributes" in finding.why


async def test_a_poison_document_stays_open_with_the_engines_reason() -> None:
    world = await filled()
    world.engine.poison = b"LAM-12"
    del world.engine.indices[world.first].documents[name(12)]
    (finding,) = (await auditor(world, repair=True).audit(world.first)).open()
    assert "mapper_parsing_exception" in finding.why


async def test_a_change_on_its_way_is_no_finding() -> None:
    world = await filled()
    world.database.put(product(12, price=4))
    state = await world.database.these([UUID(int=12)])
    checking = auditor(world)

    async def arrive(_: float) -> None:
        await world.writer.write(state, [world.first])

    checking.sleep = arrive
    report = await checking.audit(world.first)
    assert (report.differing_ranges, report.findings) == (1, [])


async def test_a_product_that_changes_at_every_look_is_left_to_the_next_audit() -> None:
    world = await filled()
    put_old(world, 12)
    price = 0

    async def change(_: float) -> None:
        nonlocal price
        price += 1
        world.database.put(product(12, price=price))
        await asyncio.sleep(0)

    checking = auditor(world)
    checking.sleep = change
    report = await checking.audit(world.first)
    assert (report.findings, report.unsettled) == ([], 1)


@dataclass
class Moving:
    """Writes, and then a change is committed that the index does not show yet, `times` times; `late` shows it at the next look."""

    world: World
    times: int
    price: int = 1_000

    async def write(self, state: State, indices: Sequence[str]) -> Outcome:
        outcome = await self.world.writer.write(state, indices)
        self.change()
        return outcome

    def change(self) -> None:
        if self.times:
            self.times -= 1
            self.price += 1
            self.world.database.put(product(11, price=self.price))

    async def late(self, _: float) -> None:
        await self.world.writer.write(await self.world.database.these([UUID(int=11)]), [self.world.first])

    async def never(self, _: float) -> None:
        self.change()


async def test_a_product_that_changes_right_after_its_repair_is_looked_at_again() -> None:
    world = await filled()
    put_old(world, 11)
    moving = Moving(world, times=1)

    async def looked(seconds: float) -> None:
        if not moving.times:
            await moving.late(seconds)

    checking = Auditor(world.engine, world.database, 10, 0, moving, looked)
    report = await checking.audit(world.first)
    assert [(each.kind, each.product, each.repaired) for each in report.findings] == [(Kind.STALE, name(11), True)]
    assert report.unsettled == 0
    assert world.prices(world.first) == world.truth()


async def test_a_product_that_goes_on_changing_after_its_repair_is_unsettled_and_not_called_wrong() -> None:
    world = await filled()
    put_old(world, 11)
    moving = Moving(world, times=0)
    rounds = 0

    async def changed(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        moving.times = 1
        if rounds > 1:  # at the first look it stands still, so that it is written
            await moving.never(seconds)

    checking = Auditor(world.engine, world.database, 10, 0, moving, changed)
    report = await checking.audit(world.first)
    assert (report.findings, report.unsettled) == ([], 1)


async def test_a_product_that_stands_still_and_stays_wrong_after_its_repair_is_open() -> None:
    world = await filled()
    put_old(world, 11)
    moving = Moving(world, times=1)  # its last change never arrives
    report = await Auditor(world.engine, world.database, 10, 0, moving, no_sleep).audit(world.first)
    (finding,) = report.open()
    assert (finding.kind, finding.product) == (Kind.STALE, name(11))


def test_people_are_told_each_finding_and_the_sum() -> None:
    report = Report("products-v1", products=1200, ranges=2)
    assert list(lines(report)) == [
        "products-v1: 1,200 products in 2 ranges, 0 differed: 0 missing, 0 stale, 0 extra, 0 unindexable, 0 changed at every look"
    ]
