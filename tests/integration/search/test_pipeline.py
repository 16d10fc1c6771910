"""The whole way: a commit, the database's log, Debezium, Kafka, the indexer, the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from infra.native.free_ports import free_ports
from services.contracts.trace_edges import INDEXED, OFFERED, SEARCH_EDGES, SpanSeen, missing
from tests.integration.catalog.stack import Stack as CatalogStack
from tests.integration.search.stack import Process, Stack, client, some, until
from tests.integration.tracing.stack import ALL_TIME, seen
from tests.servers import ConnectServer, KafkaServer, PostgresServer, SearchServer
from tests.stack import launch

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def stack(
    postgres_server: PostgresServer,
    kafka_server: KafkaServer,
    search_server: SearchServer,
    connect_server: ConnectServer,
) -> AsyncIterator[Stack]:
    """Everything but the APIs, on a filled catalogue; ready when the connector is."""
    made = Stack(postgres_server, kafka_server.bootstrap, search=search_server)
    catalog = CatalogStack(postgres_server, kafka_server.bootstrap, prefix=made.prefix, connect=connect_server)
    try:
        await made.migrate_all()
        await catalog.migrate()
        await made.create_topics()
        await made.fill(200)
        await catalog.start("connector")
        yield made
    finally:
        catalog.stop()
        made.stop()
        await made.drop_indices()


async def test_every_committed_change_is_found_soon_whatever_table_it_is_in(stack: Stack) -> None:
    await stack.start("indexer")
    canary = await stack.start("canary", environment={"SEARCH_CANARY_INTERVAL_SECONDS": "0.2"})
    await stack.indexed(within=120)

    changed, gone, whose = some(10), some(11), some(12)
    await stack.catalog("UPDATE products SET price = 123 WHERE id = $1", changed.id)
    await stack.catalog("DELETE FROM products WHERE id = $1", gone.id)
    await stack.catalog(
        "INSERT INTO variants (product_id, sku, attributes, price, stock) VALUES ($1, 'NEW-VARIANT', $2, 5, 5)",
        changed.id,
        '{"size": "47"}',
    )
    await stack.catalog("UPDATE brands SET name = 'Renamed ' || name WHERE id = $1", whose.brand)

    async def shown() -> bool:
        async with stack.engine() as engine:
            alias = f"{stack.prefix}products"
            await engine.refresh(alias)
            document = await engine.get(alias, str(changed.id))
            removed = await engine.get(alias, str(gone.id))
            renamed = await engine.get(alias, str(whose.id))
        return (
            document.source["price"] == 123
            and "NEW-VARIANT" in document.source["skus"]
            and "size=47" in document.source["attributes"]
            and not removed.found
            and renamed.source["brand"].startswith("Renamed ")
        )

    await until(shown, within=90, what="all four changes")

    async def measured() -> bool:
        return await stack.metric(canary, "search_freshness_seconds_count") >= 5

    await until(measured, within=90, what="five sightings of the canary")
    assert await stack.parked() == []
    canary.terminate()
    audit = await stack.command("audit", "--deep")
    assert audit.code == 0, audit.said


TRACE = "5" * 32


async def test_a_change_s_trace_goes_through_the_log_into_the_index(
    stack: Stack, connect_server: ConnectServer
) -> None:
    query, otlp = free_ports(2)
    kept = {"OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}"}
    log = stack.folder / "otlp.log"
    ports = {"HTTP_PORT": str(query), "OTLP_HTTP_PORT": str(otlp)}
    receiver = Process("jaeger", query, launch(["labs.console.otlp"], stack.environment() | ports, log), log)
    catalog = CatalogStack(stack.postgres, stack.bootstrap, prefix=stack.prefix, connect=connect_server)
    try:
        await stack.start("indexer", environment=kept)
        await catalog.start("api", environment=kept)
        await stack.indexed(within=120)
        offers = [{"sku": some(number).sku, "price": 4321} for number in range(5)]
        answer = await catalog.request(
            "POST", "/v1/offers", json={"offers": offers}, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        )
        assert answer.status == 200, answer.body

        async def spans() -> list[SpanSeen]:
            url = f"http://127.0.0.1:{query}/api/v3/traces"
            async with client() as session, session.get(url, params={**ALL_TIME, "query.num_traces": "1000"}) as found:
                body = await found.json(content_type=None)
                # 404: none has arrived yet
                return [] if found.status == 404 else list(seen(body["result"], stack.prefix))

        async def whole() -> bool:
            return not missing(SEARCH_EDGES, await spans())

        await until(whole, within=60, what="every edge of a change")
        of_the_change = [span.end for span in await spans() if span.trace_id == TRACE]
        assert of_the_change.count(OFFERED) == 1
        assert INDEXED in of_the_change
    finally:
        receiver.kill()
        catalog.stop()
