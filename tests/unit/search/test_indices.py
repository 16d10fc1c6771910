"""Which index is for what, and what is refused so that no change is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest

from services.search import mappings
from services.search.engine import Engine
from services.search.indices import AUTO_CREATE, IndexProblem, Indices, Shape, fields_of, version_of
from tests.unit.search.memory import MemoryEngine, MemoryIndex

FIRST = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)
SECOND = datetime(2026, 2, 1, tzinfo=UTC)


async def installed(prefix: str = "") -> tuple[MemoryEngine, Indices, str]:
    engine = MemoryEngine()
    indices = Indices(cast("Engine", engine), prefix)
    return engine, indices, await indices.install(FIRST)


async def second(indices: Indices) -> str:
    name = indices.name(1, SECOND)
    await indices.create_for_copy(name, mappings.load())
    return name


async def test_the_first_index_is_for_queries_and_changes_and_made_once() -> None:
    engine, indices, name = await installed("t1_")
    assert name == "t1_products-v1-20260131t235959123"
    assert await indices.install(SECOND) == name
    assert (await indices.reading(), await indices.writing()) == (name, (name,))
    assert engine.settings == {"action.auto_create_index": AUTO_CREATE}


async def test_an_index_to_copy_into_gets_changes_and_is_not_read() -> None:
    engine, indices, name = await installed()
    new = await second(indices)
    assert (await indices.reading(), await indices.writing()) == (name, (name, new))
    assert engine.indices[new].body["settings"]["index"]["refresh_interval"] == "-1"
    await indices.create_for_copy(new, mappings.load())
    await indices.open_for_queries(new)
    assert engine.indices[new].body["settings"]["index"]["refresh_interval"] == "1s"


async def test_an_index_is_merged_to_few_segments_or_to_as_many_as_the_engine_would_still_merge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, indices, name = await installed()
    await indices.merge(name)

    async def large(_: str) -> tuple[int, int]:
        return 10_000_000, 13_000_000_000

    monkeypatch.setattr(engine, "index_bytes", large)
    await indices.merge(name)
    assert engine.merged == [(name, 4), (name, 6)]


async def test_an_index_that_cannot_be_merged_now_is_used_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    engine, indices, name = await installed()
    engine.too_busy_to_merge = True
    await indices.merge(name)
    assert "the index is not merged" in caplog.text


async def test_a_swap_moves_queries_and_leaves_changes_and_a_rollback_moves_them_back() -> None:
    _, indices, name = await installed()
    new = await second(indices)
    assert await indices.swap(new) == name
    assert await indices.swap(new) is None
    assert (await indices.reading(), await indices.writing()) == (new, (name, new))
    assert await indices.rollback() == (name, new)
    assert await indices.reading() == name


async def test_queries_never_go_to_an_index_without_changes() -> None:
    engine, indices, _ = await installed()
    engine.indices["products-v1-20250101t000000000"] = MemoryIndex({})
    with pytest.raises(IndexProblem, match="gets no changes"):
        await indices.swap("products-v1-20250101t000000000")


async def test_without_another_index_there_is_no_rollback() -> None:
    _, indices, _ = await installed()
    with pytest.raises(IndexProblem, match="no other index"):
        await indices.rollback()


async def test_what_queries_read_is_not_dropped() -> None:
    engine, indices, name = await installed()
    new = await second(indices)
    with pytest.raises(IndexProblem, match="swap first"):
        await indices.drop(name)
    await indices.drop(new)
    assert (list(engine.indices), await indices.writing()) == ([name], (name,))


@pytest.mark.parametrize(
    "name", ["", "*", "_all", "products", "products-v1-*", "products-v0-20260131t235959123", ".kibana"]
)
async def test_only_concrete_indices_of_ours_are_dropped(name: str) -> None:
    _, indices, _ = await installed()
    with pytest.raises(IndexProblem, match="no name of an index of ours"):
        await indices.drop(name)


async def test_another_installations_index_is_not_dropped() -> None:
    _, indices, _ = await installed("mine_")
    with pytest.raises(IndexProblem, match="another installation"):
        await indices.drop("yours_products-v1-20260131t235959123")


async def test_a_new_field_of_the_same_version_is_added_in_place() -> None:
    engine, indices, name = await installed()
    del engine.indices[name].body["mappings"]["properties"]["popularity"]
    assert await indices.update() == ["popularity"]
    assert await indices.update() == []


async def test_another_version_wants_a_reindex() -> None:
    engine, indices, name = await installed()
    old = name.replace("-v1-", "-v7-")
    engine.indices[old] = engine.indices.pop(name)
    engine.alias = {"products": {old}, "products-write": {old}}
    with pytest.raises(IndexProblem, match="leads a reindex"):
        await indices.update()


async def test_shards_and_replicas_can_be_chosen() -> None:
    engine = MemoryEngine()
    name = await Indices(cast("Engine", engine), "", Shape(3, 1)).install(FIRST)
    settings = engine.indices[name].body["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == (3, 1)
    assert mappings.load().body["settings"]["index"]["number_of_shards"] == 1


def test_a_name_says_its_version() -> None:
    assert version_of("t1_products-v12-20260131t235959123") == 12
    assert fields_of("products-v1-20260131t235959123") == mappings.load(1).fields
