"""What an indexer's batch looks like in the traces of those who caused it, and in its own."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from services.contracts.catalog import change_of
from services.search import traces
from services.search.engine import Engine
from tests.unit.kit.recorded_spans import recorded
from tests.unit.search.memory import product
from tests.unit.search.test_engine import node
from tests.unit.search.test_indexer import World, change

ONE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TWO = "00-5bf92f3577b34da6a3ce929d0e0e4736-10f067aa0ba902b7-01"


def told(**more: Any) -> str | None:
    body = {"op": "u", "source": {"table": "products"}, "before": None, "after": {"traceparent": ONE}, **more}
    found = change_of(msgspec.json.encode(body))
    assert found is not None
    return traces.cause_of(found)


def test_a_change_tells_its_trace() -> None:
    assert told() == ONE
    assert told(op="c") == ONE


@pytest.mark.parametrize(
    "more",
    [
        {"op": "r"},
        {"op": "d", "after": None},
        {"after": {}},
        {"after": {"traceparent": None}},
        {"after": {"traceparent": 7}},
        {"after": {"traceparent": "garbage"}},
    ],
)
def test_without_a_trace_of_its_own_it_tells_none(more: dict[str, Any]) -> None:
    assert told(**more) is None


def caused(number: int, cause: str) -> Any:
    return change(number, after={"traceparent": cause})


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


async def test_a_batch_links_to_its_causes_and_each_cause_has_one_span_in_its_own_trace() -> None:
    world = await World().install()
    for number in (1, 2, 3):
        world.database.put(product(number))
    with recorded() as exporter:
        assert await world.indexer().changes([caused(1, ONE), caused(2, ONE), caused(3, TWO), change(1)]) == []
    spans = exporter.get_finished_spans()
    (batch,) = named(spans, traces.BATCH)
    assert {f"{link.context.trace_id:032x}" for link in batch.links} == {ONE[3:35], TWO[3:35]}
    assert batch.parent is None
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 4
    each = named(spans, "process catalog.product-changes.v1")
    assert sorted(map(trace_of, each)) == [ONE[3:35], TWO[3:35]]
    assert all(f"{link.context.trace_id:032x}" == trace_of(batch) for span in each for link in span.links)


async def test_what_no_index_takes_fails_its_own_trace_and_not_the_other() -> None:
    world = await World().install()
    world.engine.poison = b"LAM-2"
    for number in (1, 2):
        world.database.put(product(number))
    with recorded() as exporter:
        assert len(await world.indexer().changes([caused(1, ONE), caused(2, TWO)])) == 1
    each = {trace_of(span): span for span in named(exporter.get_finished_spans(), "process catalog.product-changes.v1")}
    assert each[TWO[3:35]].status.is_ok is False
    assert each[ONE[3:35]].status.is_ok is True


async def test_a_batch_that_nobody_caused_has_a_span_of_its_own_alone() -> None:
    world = await World().install()
    world.database.put(product(1))
    with recorded() as exporter:
        await world.indexer().changes([change(1)])
    assert [span.name for span in exporter.get_finished_spans()] == [traces.BATCH]


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/_bulk", "bulk"),
        ("POST", "/products/_search", "search"),
        ("GET", "/_cluster/health/products", "cluster.health"),
        ("PUT", "/_cluster/settings", "cluster.settings"),
        ("GET", "/_alias/products", "alias"),
        ("PUT", "/products-v1", "indices.put"),
        ("POST", f"/products/_explain/{UUID(int=7)}", "explain"),
        ("GET", "/", "indices.get"),
    ],
)
def test_a_call_has_a_name_without_ids(method: str, path: str, operation: str) -> None:
    assert traces.operation_of(method, path) == operation


async def test_a_call_of_the_engine_is_a_child_where_there_is_a_trace_and_nothing_where_there_is_none() -> None:
    async with node(body={"count": 1}) as there, Engine([there.url]) as engine:
        with recorded() as exporter:
            await engine.count("i")
            with traces.batch_of("t", "g", 1, ()) as batch:
                await engine.count("i")
        call, own = exporter.get_finished_spans()
        assert (call.name, own.name) == ("count", traces.BATCH)
        assert call.parent is not None
        assert f"{call.parent.span_id:016x}" == batch.span.traceparent[36:52]
