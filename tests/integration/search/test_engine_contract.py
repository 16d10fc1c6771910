"""Every call that search makes of its engine, on each engine at hand: OpenSearch 3 and a real Elasticsearch 7.10."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.kit import deadline
from services.patterns.deadline import Deadline
from services.search import mappings
from services.search.documents import document, encoded
from services.search.engine import (
    Conflict,
    Engine,
    EngineDown,
    EngineRefused,
    Fate,
    NotThere,
    Write,
)
from services.search.indices import Indices, Shape
from tests.integration.search.red import red_index
from tests.servers import SearchServer
from tests.unit.search.memory import product

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture(params=["opensearch", "elasticsearch"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "elasticsearch":
        return str(request.getfixturevalue("elasticsearch"))
    server: SearchServer = request.getfixturevalue("search_server")
    return server.url


@pytest.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with Engine([url], timeout=30) as made:
        yield made


@pytest.fixture
async def indices(engine: Engine) -> AsyncIterator[Indices]:
    """An installation of its own, with three products."""
    made = Indices(engine, f"t{uuid4().hex[:8]}_", Shape(replicas=0))
    name = await made.install(NOW)
    fields = mappings.load().fields
    writes = [
        Write(name, str(UUID(int=number)), number, encoded(document(product(number, **changes)), fields))
        for number, changes in (
            (1, {"title": "Castou reading lamp 911 997", "attributes": {"height": "160 cm", "colour": "red"}}),
            (2, {"title": "Neacou reading lamps", "price": 900, "popularity": 7}),
            (3, {"title": "Fußmatte für Küchen", "language": "de", "sku": "AB-12/34 c", "stock": 0}),
        )
    ]
    assert {each.fate for each in await engine.bulk(writes, refresh=True)} == {Fate.DONE}
    yield made
    for index in await made.writing():
        await engine.delete_index(index)


def write(index: str, version: int, **changes: Any) -> Write:
    return Write(index, str(UUID(int=1)), version, encoded(document(product(1, **changes)), mappings.load().fields))


async def ids(engine: Engine, index: str, query: Any) -> list[int]:
    hits = (await engine.search(index, {"query": query, "sort": ["_score", {"id": "asc"}]})).hits.hits
    return [UUID(hit.id).int for hit in hits]


async def search(engine: Engine, indices: Indices) -> None:
    body = {
        "query": {"match": {"title_en": "lamps"}},
        "size": 1, "sort": ["_score", {"id": "asc"}], "track_total_hits": 10, "_source": ["title"],
        "post_filter": {"term": {"in_stock": True}},
        "aggs": {"brands": {"terms": {"field": "brand", "size": 5}}},
        "highlight": {"fields": {"title_en": {}}},
        "explain": True,
    }  # fmt: skip
    found = await engine.search(indices.read_alias, body)
    assert found.hits.total is not None
    assert (found.hits.total.value, found.hits.total.relation, found.partial) == (2, "eq", False)
    (hit,) = found.hits.hits
    assert hit.highlight["title_en"]
    assert hit.source.keys() == {"title"}
    assert hit.index.startswith(indices.read_alias)
    assert hit.explanation is not None
    assert found.aggregations["brands"]["buckets"][0]["doc_count"] == 2
    (after,) = (await engine.search(indices.read_alias, {**body, "search_after": hit.sort})).hits.hits
    assert {UUID(hit.id).int, UUID(after.id).int} == {1, 2}


async def msearch(engine: Engine, indices: Indices) -> None:
    one = {"query": {"term": {"sku.norm": "AB1234C"}}}
    first, second = await engine.msearch([(indices.read_alias, one), (indices.read_alias, {"size": 0})])
    assert [UUID(hit.id).int for hit in first.hits.hits] == [3]
    assert second.hits.hits == []
    with pytest.raises(NotThere):
        await engine.msearch([("nothing-here", one)])


async def explain(engine: Engine, indices: Indices) -> None:
    query = {"match": {"title": "lamp"}}
    explanation = await engine.explain(indices.read_alias, str(UUID(int=1)), query)
    assert explanation is not None
    assert explanation["value"] > 0
    assert await engine.explain(indices.read_alias, str(UUID(int=3)), query) is None


async def count(engine: Engine, indices: Indices) -> None:
    assert await engine.count(indices.read_alias) == 3
    assert await engine.count(indices.read_alias, {"range": {"number.height": {"gte": 150.0}}}) == 1


async def scan(engine: Engine, indices: Indices) -> None:
    found = [hit async for hit in engine.scan(indices.read_alias, {"match_all": {}}, source=["digest"], page=2)]
    assert [(UUID(hit.id).int, hit.version) for hit in found] == [(1, 1), (2, 2), (3, 3)]
    assert found[0].source.keys() == {"digest"}


async def get(engine: Engine, indices: Indices) -> None:
    found = await engine.get(indices.read_alias, str(UUID(int=2)))
    assert (found.found, found.version, found.source["price"]) == (True, 2, 900)
    assert not (await engine.get(indices.read_alias, str(UUID(int=9)))).found


async def mget(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    await engine.bulk([Write(name, str(UUID(int=4)), 4, encoded(document(product(4)), mappings.load().fields))])
    wanted = [str(UUID(int=number)) for number in (4, 9, 1)]
    found = await engine.mget(name, wanted, source=["id"])
    assert [each.found for each in found] == [True, False, True], "unrefreshed, too"
    assert await engine.mget(name, []) == []
    with pytest.raises(NotThere):
        await engine.mget("nothing-here", wanted)


async def bulk(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    poison = Write(name, str(UUID(int=8)), 1, b'{"id":"8","price":"a price"}')
    unknown = Write(name, str(UUID(int=9)), 1, b'{"id":"9","colour":"red"}')
    gone = indices.name(1, datetime(2020, 1, 1, tzinfo=UTC))
    made = await engine.bulk([poison, unknown, write(name, 5), Write(gone, "1", 1, b"{}")])
    assert [each.fate for each in made] == [Fate.REFUSED, Fate.REFUSED, Fate.DONE, Fate.NO_INDEX]
    assert (made[0].kind, "price" in made[0].reason) in {
        ("mapper_parsing_exception", True), ("document_parsing_exception", True),
    }  # fmt: skip
    assert made[1].kind == "strict_dynamic_mapping_exception"
    assert not await engine.index_exists(gone), "no index is made by guess"


async def create_index(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    with pytest.raises(Conflict):
        await engine.create_index(name, mappings.load().body)
    with pytest.raises(EngineRefused):
        await engine.create_index("NO_UPPER_CASE", {})


async def delete_index(engine: Engine, indices: Indices) -> None:
    name = indices.read_alias + "-extra"
    await engine.create_index(name, {})
    await engine.delete_index(name)
    with pytest.raises(NotThere):
        await engine.delete_index(name)


async def index_exists(engine: Engine, indices: Indices) -> None:
    assert await engine.index_exists(indices.read_alias)
    assert not await engine.index_exists("nothing-here")


async def aliases(engine: Engine, indices: Indices) -> None:
    assert await engine.aliases(indices.read_alias) == await engine.aliases(indices.write_alias)
    assert await engine.aliases("nothing-here") == ()


async def update_aliases(engine: Engine, indices: Indices) -> None:
    (before,) = await indices.writing()
    name = indices.name(1, datetime(2026, 2, 1, tzinfo=UTC))
    await indices.create_for_copy(name, mappings.load())
    assert await indices.writing() == (before, name)
    await indices.open_for_queries(name)
    assert await indices.swap(name) == before
    assert await indices.reading() == name
    with pytest.raises(NotThere):
        await engine.update_aliases([{"add": {"index": "nothing-here", "alias": indices.read_alias}}])


async def refresh(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    await engine.put_settings(name, {"refresh_interval": "-1"})
    await engine.bulk([Write(name, str(UUID(int=1)), 5, None)])
    assert await engine.count(name) == 3
    await engine.refresh(name)
    assert await engine.count(name) == 2
    await engine.put_settings(name, {"refresh_interval": "1s"})


async def mapping(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    made = await engine.mapping(name)
    assert made["properties"].keys() == mappings.load().fields
    assert made["properties"]["number"]["properties"]["height"] == {"type": "double"}
    assert made["_meta"] == {"version": 1}


async def put_mapping(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    await engine.put_mapping(name, {"properties": {"warranty": {"type": "keyword"}}})
    assert "warranty" in (await engine.mapping(name))["properties"]
    with pytest.raises(EngineRefused, match="price"):
        await engine.put_mapping(name, {"properties": {"price": {"type": "text"}}})


async def put_settings(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    await engine.put_settings(name, {"refresh_interval": "5s", "gc_deletes": "24h"})
    with pytest.raises(EngineRefused):
        await engine.put_settings(name, {"number_of_shards": 4})


async def put_cluster_settings(engine: Engine, indices: Indices) -> None:
    await indices.install(NOW)
    with pytest.raises(EngineRefused):
        await engine.put_cluster_settings({"no.such.setting": "1"})


async def health(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    assert (await engine.health()).number_of_nodes == 1
    assert (await engine.health(name, wait_for="green")).status == "green"
    await engine.put_settings(name, {"number_of_replicas": 1})
    with deadline.bound(Deadline.after(3)):
        assert (await engine.health(name, wait_for="green")).status == "yellow"
    await engine.put_settings(name, {"number_of_replicas": 0})


async def index_bytes(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    documents, size = await engine.index_bytes(name)
    assert documents == 3
    assert size > 1000


async def force_merge(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()
    for number in (11, 12, 13):
        await engine.bulk([Write(name, str(UUID(int=number)), 5, None)])
        await engine.refresh(name)
    before = await engine.count(name)
    await engine.force_merge(name, 1)
    assert await engine.count(name) == before
    with pytest.raises(NotThere):
        await engine.force_merge(f"{name}-nobody-made", 1)


async def answers(engine: Engine, indices: Indices) -> None:
    alias, red = indices.write_alias, f"{indices.write_alias}-red"
    assert await engine.answers(alias)
    assert not await engine.answers(f"{alias}-nobody-made")
    async with red_index(engine, red):
        assert await engine.answers(alias), "another index that has lost a shard is no matter of ours"
        assert not await engine.answers(red)
    async with Engine(["http://127.0.0.1:1"]) as nowhere:
        assert not await nowhere.answers(alias)


CALLS: dict[str, Callable[[Engine, Indices], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        search, msearch, explain, count, scan, get, mget, bulk, create_index, delete_index, index_exists, aliases,
        update_aliases, refresh, mapping, put_mapping, put_settings, put_cluster_settings, health, index_bytes, force_merge, answers,
    )
}  # fmt: skip


def test_every_call_of_the_engine_is_in_the_list() -> None:
    public = {name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if not name.startswith("_")}
    assert public - {"close"} == CALLS.keys()


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_does_on_this_engine_what_search_relies_on(engine: Engine, indices: Indices, call: str) -> None:
    await CALLS[call](engine, indices)


async def test_versions_decide_which_write_stays(engine: Engine, indices: Indices) -> None:
    (name,) = await indices.writing()

    async def fate(version: int, body: bool = True) -> Fate:
        one = write(name, version, price=version) if body else Write(name, str(UUID(int=1)), version, None)
        return (await engine.bulk([one]))[0].fate

    assert await fate(1 << 62) is Fate.DONE
    assert await fate(1 << 62) is Fate.DONE, "the same once more"
    assert await fate((1 << 62) - 1) is Fate.NEWER_THERE
    assert await fate((1 << 62) - 1, body=False) is Fate.NEWER_THERE
    assert await fate((1 << 62) + 1, body=False) is Fate.DONE
    assert await fate(1 << 62) is Fate.NEWER_THERE, "a stale change does not resurrect what is deleted"
    assert not (await engine.get(name, str(UUID(int=1)))).found
    gone = Write(name, str(UUID(int=77)), 50, None)
    assert (await engine.bulk([gone]))[0].fate is Fate.DONE, "a delete of what never was leaves its version"
    late = Write(name, str(UUID(int=77)), 49, encoded(document(product(77)), mappings.load().fields))
    assert (await engine.bulk([late]))[0].fate is Fate.NEWER_THERE


async def test_text_is_analysed_alike(engine: Engine, indices: Indices) -> None:
    index = indices.read_alias
    assert sorted(await ids(engine, index, {"match": {"title_en": "lamp"}})) == [1, 2]
    assert await ids(engine, index, {"match": {"title": "lamps"}}) == [2]
    assert await ids(engine, index, {"match": {"title_de": "kuche"}}) == [3]
    assert await ids(engine, index, {"match": {"title": "fussmatte"}}) == [3]
    assert await ids(engine, index, {"term": {"title.exact": "NEACOU reading lamps"}}) == [2]
    assert await ids(engine, index, {"match": {"suggest": "Castou rea"}}) == [1]
    assert await ids(engine, index, {"match": {"suggest": "castou reading lamp 911 99"}}) == [1]
    infix = {"match": {"suggest.infix": {"query": "rea cast", "operator": "and"}}}
    assert await ids(engine, index, infix) == [1]
    assert await ids(engine, index, {"term": {"sku.norm": "ab-12 34C"}}) == [3]
    assert await ids(engine, index, {"term": {"in_stock": False}}) == [3]


@pytest.mark.parametrize(
    "body",
    [
        {"query": {"nonsense": {}}},
        {"query": {"match": {"title": {"query": "x", "fuzziness": "many"}}}},
        {"query": {"term": {"price": "a price"}}},
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_with_a_reason(
    engine: Engine, indices: Indices, body: dict[str, Any]
) -> None:
    with pytest.raises(EngineRefused) as refused:
        await engine.search(indices.read_alias, body)
    assert refused.value.reason


async def test_an_unknown_index_is_not_there(engine: Engine) -> None:
    with pytest.raises(NotThere):
        await engine.search("nothing-here", {})


async def test_a_node_that_is_not_there_is_passed_over(url: str) -> None:
    async with Engine(["http://127.0.0.1:1", url, "http://127.0.0.1:2"], timeout=10) as engine:
        for _ in range(6):
            assert (await engine.health()).status in ("green", "yellow")


async def test_without_any_node_the_engine_is_down() -> None:
    async with Engine(["http://127.0.0.1:1"], timeout=2) as engine:
        with pytest.raises(EngineDown):
            await engine.search("products", {})


async def test_when_the_callers_time_is_over_nothing_is_asked(engine: Engine) -> None:
    with deadline.bound(Deadline.after(0)), pytest.raises(deadline.DeadlineOver):
        await engine.search("products", {})
