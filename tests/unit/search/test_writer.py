"""Nothing that the engine can take is left out, and what it cannot take costs nothing but itself."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from services.patterns.backoff import Backoff
from services.search.engine import Write
from services.search.patience import OutOfPatience
from services.search.snapshot import Snapshot
from services.search.store.catalog import State
from services.search.writer import Writer, chunks
from tests.unit.search.memory import MemoryEngine, MemoryIndex, Naps, product

INDEX = "products-v1-20260101t000000000"
OTHER = "products-v1-20260102t000000000"


def engine(**how: object) -> MemoryEngine:
    return MemoryEngine(indices={INDEX: MemoryIndex({}), OTHER: MemoryIndex({})}, **how)  # type: ignore[arg-type]  # its fields


def writer(engine: MemoryEngine, naps: Naps, patience: float | None = None, limit: int = 1 << 20) -> Writer:
    backoff = Backoff(1, 8)
    return Writer(engine, limit, 5, backoff, patience, random.Random(1), naps.sleep, naps.now)


def state(xmax: int, *numbers: int, gone: tuple[int, ...] = (), **changes: object) -> State:
    rows = {UUID(int=number): product(number, **changes) for number in numbers}
    return State(Snapshot(xmax, frozenset()), {**rows, **{UUID(int=number): None for number in gone}})


async def test_a_state_goes_to_every_index_with_the_version_of_its_snapshot() -> None:
    made = engine()
    outcome = await writer(made, Naps()).write(state(50, 1, 2), [INDEX, OTHER])
    assert (outcome.done, outcome.refused) == (4, ())
    for index in (INDEX, OTHER):
        kept = made.indices[index].documents[str(UUID(int=1))]
        assert kept.version == Snapshot(50, frozenset()).version


async def test_an_older_state_never_covers_a_newer_one_and_a_doubled_one_does_no_harm() -> None:
    made, naps = engine(), Naps()
    await writer(made, naps).write(state(60, 1, title="new"), [INDEX])
    assert (await writer(made, naps).write(state(50, 1, title="old"), [INDEX])).newer == 1
    assert (await writer(made, naps).write(state(60, 1, title="new"), [INDEX])).done == 1
    assert made.indices[INDEX].sources()[str(UUID(int=1))]["title"] == "new"


async def test_a_deleted_product_stays_deleted_whatever_comes_late() -> None:
    made, naps = engine(), Naps()
    await writer(made, naps).write(state(60, gone=(1,)), [INDEX])
    assert (await writer(made, naps).write(state(59, 1), [INDEX])).newer == 1
    assert made.indices[INDEX].sources() == {}


@pytest.mark.parametrize("how", [{"busy": 3}, {"busy_items": 5}, {"down": 2}, {"busy": 1, "busy_items": 2, "down": 1}])
async def test_what_the_engine_cannot_take_now_is_sent_again_until_it_is_taken(how: dict[str, int]) -> None:
    made, naps = engine(**how), Naps()
    outcome = await writer(made, naps).write(state(50, 1, 2, 3), [INDEX])
    assert outcome.done == 3
    assert len(made.indices[INDEX].sources()) == 3
    assert naps.taken


async def test_only_what_was_turned_away_is_sent_again() -> None:
    made = engine(busy_items=1)
    await writer(made, Naps()).write(state(50, 1, 2, 3), [INDEX])
    assert made.bulks == [3, 1]


async def test_pauses_grow_up_to_their_limit() -> None:
    naps = Naps()
    await writer(engine(busy=40), naps).write(state(50, 1), [INDEX])
    assert max(naps.taken[:2]) <= 2
    assert 4 < max(naps.taken) <= 8


async def test_a_command_gives_up_when_its_patience_is_over() -> None:
    with pytest.raises(OutOfPatience, match="did not take 1 documents for 20 s"):
        await writer(engine(down=10_000), Naps(), patience=20).write(state(50, 1), [INDEX])


async def test_a_poison_document_is_refused_with_its_reason_and_the_others_go_on() -> None:
    made = engine(poison=b"LAM-2")
    outcome = await writer(made, Naps()).write(state(50, 1, 2, 3), [INDEX])
    (refused,) = outcome.refused
    assert (refused.product, refused.index, refused.kind) == (UUID(int=2), INDEX, "mapper_parsing_exception")
    assert len(made.indices[INDEX].sources()) == 2


async def test_a_document_that_spoils_its_whole_request_is_found_by_halving() -> None:
    made = engine(spoiling=b"LAM-5")
    outcome = await writer(made, Naps()).write(state(50, *range(1, 9)), [INDEX])
    assert [each.product for each in outcome.refused] == [UUID(int=5)]
    assert outcome.done == 7


async def test_halving_and_being_busy_together_lose_nothing() -> None:
    made = engine(spoiling=b"LAM-5", busy=2, busy_items=3)
    outcome = await writer(made, Naps()).write(state(50, *range(1, 9)), [INDEX])
    assert [each.product for each in outcome.refused] == [UUID(int=5)]
    assert outcome.done == 7


async def test_a_product_that_no_index_can_hold_is_refused_before_it_is_sent() -> None:
    outcome = await writer(engine(), Naps()).write(state(50, 1, attributes=[1]), [INDEX, OTHER])
    (refused,) = outcome.refused
    assert (refused.index, refused.kind) == ("", "malformed_attributes")


async def test_an_index_that_is_gone_is_passed_over() -> None:
    made = engine()
    del made.indices[OTHER]
    assert (await writer(made, Naps()).write(state(50, 1), [INDEX, OTHER])).done == 1
    assert OTHER not in made.indices


def test_a_request_is_bounded_in_bytes_and_a_document_is_never_split() -> None:
    writes = [Write(INDEX, str(number), 1, b"x" * size) for number, size in enumerate([100, 100, 5000, 100, 0])]
    made = list(chunks(writes, 1000))
    assert [len(chunk) for chunk in made] == [2, 1, 2]
    assert [each for chunk in made for each in chunk] == writes
    assert list(chunks([], 1000)) == []


async def test_a_large_state_is_sent_in_several_requests() -> None:
    made = engine()
    outcome = await writer(made, Naps(), limit=3000).write(state(50, *range(1, 31)), [INDEX])
    assert outcome.done == 30
    assert len(made.bulks) > 5
