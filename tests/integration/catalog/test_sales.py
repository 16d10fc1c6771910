"""Paid orders from Kafka: each is taken off the stock once, whatever comes twice, and garbage is parked with its reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.contracts import topics
from services.contracts.payments import PaymentEvent
from services.kit import ids, kafka
from tests.integration.catalog.stack import Stack, until
from tests.records import everything
from tests.servers import KafkaServer, PostgresServer

pytestmark = pytest.mark.integration


@pytest.fixture
async def stack(postgres_server: PostgresServer, kafka_server: KafkaServer) -> AsyncIterator[Stack]:
    """Migrated, with topics and a product LAMP of stock 5; nothing running but the API."""
    made = Stack(postgres_server, kafka_server.bootstrap, extra={"CATALOG_SALES_MERCHANT": "mer_demo"})
    try:
        await made.migrate()
        await made.create_topics()
        await made.tree()
        await made.start("api")
        await made.create("LAMP", stock=5, popularity=1)
        yield made
    finally:
        made.stop()


async def captured(stack: Stack, event: str, metadata: Mapping[str, str], *, times: int = 1, **changes: Any) -> None:
    """As the relay tells it."""
    body = PaymentEvent(
        f"pay_{event}", "mer_demo", "order-1", "tok_1", "captured", 1000, "EUR", 1000, 0, 1, {**metadata}
    )
    head = kafka.EventHead(event, "payments.payment.captured", "/payments", body.payment_id, datetime.now(UTC))
    value = msgspec.json.encode(msgspec.structs.replace(body, **changes))
    topic = stack.prefix + topics.PAYMENT_EVENTS.name
    async with kafka.running(kafka.producer(stack.bootstrap, client_id="test")) as producer:
        for _ in range(times):
            await producer.send_and_wait(topic, value=value, key=body.payment_id.encode(), headers=head.headers())


async def sales(stack: Stack) -> list[tuple[str, int, int]]:
    rows = await stack.sql("SELECT event_id, quantity, short FROM sales ORDER BY event_id")
    return [(row["event_id"], row["quantity"], row["short"]) for row in rows]


async def figures(stack: Stack, sku: str = "LAMP") -> tuple[int, int]:
    (row,) = await stack.sql("SELECT stock, popularity FROM products WHERE sku = $1", sku)
    return row["stock"], row["popularity"]


async def reasons(stack: Stack) -> list[str]:
    parked = await everything(stack.bootstrap, stack.prefix + topics.CATALOG_SALES_DLQ.name)
    return sorted(kafka.header(each.headers, "dlq_reason") or "" for each in parked)


async def counted(stack: Stack, count: int) -> None:
    async def there() -> bool:
        return len(await sales(stack)) >= count

    await until(there, within=60, what=f"{count} sales")


async def test_a_paid_order_is_taken_off_the_stock_once_however_often_its_event_comes(stack: Stack) -> None:
    await captured(stack, "evt-a", {"sku": "LAMP", "quantity": "2"}, times=3)
    first = await stack.start("sales")
    await counted(stack, 1)
    first.kill()
    await stack.sql("UPDATE sales SET sold_at = sold_at")  # the inbox is what keeps it, not the offset
    await captured(stack, "evt-a", {"sku": "LAMP", "quantity": "2"})
    await captured(stack, "evt-b", {"sku": "LAMP"})
    second = await stack.start("sales")
    await counted(stack, 2)
    assert await sales(stack) == [("evt-a", 2, 0), ("evt-b", 1, 0)]
    assert await figures(stack) == (2, 4)
    answer = await stack.request("GET", "/v1/products?sku=LAMP")
    assert answer.json["data"][0]["version"] == 3
    assert second.terminate() == 0


async def test_what_is_sold_and_not_there_is_kept_as_short_and_the_stock_stays_at_zero(stack: Stack) -> None:
    await captured(stack, "evt-a", {"sku": "LAMP", "quantity": "4"})
    await captured(stack, "evt-b", {"sku": "LAMP", "quantity": "4"})
    process = await stack.start("sales")
    await counted(stack, 2)
    assert sum(short for _, _, short in await sales(stack)) == 3
    assert await figures(stack) == (0, 9)
    assert await stack.metric(process, 'catalog_sales_total{outcome="oversold"}') == 1


async def test_what_names_no_article_is_parked_and_what_is_none_of_ours_is_passed_over(stack: Stack) -> None:
    process = await stack.start("sales")
    await captured(stack, "evt-unknown", {"sku": "NO-SUCH"})
    await captured(stack, "evt-garbage", {"sku": "LAMP", "quantity": "many"})
    await captured(stack, "evt-other", {"sku": "LAMP"}, merchant_id="mer_other")
    await captured(stack, "evt-without", {})
    await captured(stack, "evt-good", {"sku": "LAMP"})
    await counted(stack, 1)

    async def handled() -> bool:
        parked = await stack.metric(process, 'catalog_sales_total{outcome="parked"}')
        passed = await stack.metric(process, 'catalog_sales_total{outcome="unrelated"}')
        return parked == passed == 2

    await until(handled, within=60, what="two parked, two passed over")

    async def told() -> bool:
        return await reasons(stack) == ["malformed_order", "no_such_article"]

    await until(told, within=60, what="the reasons")
    assert [event for event, _, _ in await sales(stack)] == ["evt-good"]
    assert await figures(stack) == (4, 2)


async def test_a_variant_s_sale_moves_the_product_s_stock(stack: Stack) -> None:
    await stack.create(
        "SHOE", variants=[{"sku": "SHOE-42", "price": 100, "stock": 3}, {"sku": "SHOE-43", "price": 100, "stock": 1}]
    )
    await stack.start("sales")
    await captured(stack, "evt-a", {"sku": "SHOE-42", "quantity": "2"})
    await counted(stack, 1)
    assert await figures(stack, "SHOE") == (2, 2)
    (row,) = await stack.sql("SELECT stock FROM variants WHERE sku = 'SHOE-42'")
    assert row["stock"] == 1


async def test_sales_that_are_old_leave_the_inbox_and_the_popularity(stack: Stack) -> None:
    (row,) = await stack.sql("UPDATE products SET popularity = 7 WHERE sku = 'LAMP' RETURNING id")
    old = "INSERT INTO sales (event_id, payment_id, product_id, sku, quantity, short, sold_at) VALUES ($1, $1, $2, 'LAMP', $3, 0, now() - make_interval(days => $4))"
    for event, product, quantity, days in (
        ("evt-old", row["id"], 2, 31), ("evt-older", row["id"], 1, 40), ("evt-gone", ids.uuid7(), 9, 31), ("evt-new", row["id"], 3, 29)
    ):  # fmt: skip
        await stack.sql(old, event, product, quantity, days)
    await stack.start("sales")

    async def swept() -> bool:
        return [event for event, _, _ in await sales(stack)] == ["evt-new"]

    await until(swept, within=60, what="the sweep")
    assert await figures(stack) == (5, 4)
