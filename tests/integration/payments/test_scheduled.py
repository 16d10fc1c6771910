"""A schedule's order has payments compared with the bank: once for each run, with what was found kept beside its id."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from services.contracts import topics
from services.kit import kafka
from tests.integration.payments.stack import Stack, until
from tests.records import everything

pytestmark = pytest.mark.integration

NEVER = {"PAYMENTS_RECONCILER_INTERVAL_SECONDS": "86400"}


async def order(stack: Stack, run: str, body: bytes = b"{}", headers: Mapping[str, bytes] | None = None) -> None:
    head = kafka.EventHead(run, "cron.run.due", "/cron", "job_1", datetime.now(UTC))
    topic = stack.prefix + topics.CRON_RECONCILIATIONS.name
    async with kafka.running(kafka.producer(stack.bootstrap, client_id="test")) as producer:
        await producer.send_and_wait(
            topic, value=body, key=b"job_1", headers=[*head.headers(), *(headers or {}).items()]
        )


async def kept(stack: Stack) -> dict[str, tuple[str, int]]:
    rows = await stack.sql("SELECT run_id, outcome, open_findings FROM scheduled_reconciliations")
    return {row["run_id"]: (row["outcome"], row["open_findings"]) for row in rows}


async def until_kept(stack: Stack, *runs: str) -> dict[str, tuple[str, int]]:
    async def there() -> dict[str, tuple[str, int]] | None:
        found = await kept(stack)
        return found if set(runs) <= found.keys() else None

    return await until(there, within=60, what="the scheduled reconciliations")


async def reconciling(kafka_stack: Stack) -> Any:
    await kafka_stack.start("bank")
    await asyncio.gather(kafka_stack.start("api"), kafka_stack.start("reconciler", environment=NEVER))
    return next(each for each in kafka_stack.processes if each.role == "reconciler")


async def test_an_order_compares_what_was_paid_since_and_the_same_run_only_once(kafka_stack: Stack) -> None:
    stack = kafka_stack
    process = await reconciling(stack)
    paid = await stack.pay("story-1")
    assert paid.json["status"] == "captured"
    for _ in range(3):
        await order(stack, "run_1")
    assert await until_kept(stack, "run_1") == {"run_1": ("compared", 0)}
    (file,) = await stack.sql("SELECT lines, cut_at FROM settlement_files ORDER BY received_at DESC LIMIT 1")
    (operation,) = await stack.sql("SELECT resolved_at FROM operations")
    assert file["lines"] == 1
    assert file["cut_at"] > operation["resolved_at"]

    async def known() -> bool:
        return await stack.metric(process, 'payments_scheduled_reconciliations_total{outcome="known"}') == 2

    await until(known, within=60, what="the doubles passed over")


async def test_a_mistake_of_the_bank_is_in_what_the_run_leaves(kafka_stack: Stack) -> None:
    stack = kafka_stack
    await reconciling(stack)
    await stack.pay("wrong-1")
    await stack.behave("settlement_mistakes", wrong_amount=1)
    await order(stack, "run_2")
    assert (await until_kept(stack, "run_2"))["run_2"] == ("compared", 1)


async def test_garbage_is_parked_late_orders_are_dropped_and_a_bank_that_is_away_is_waited_for(
    kafka_stack: Stack,
) -> None:
    stack = kafka_stack
    process = await reconciling(stack)
    await order(stack, "run_bad", b"nonsense")
    await order(stack, "run_late", headers={"ce_expirytime": b"2020-01-01T00:00:00Z"})
    bank = next(each for each in stack.processes if each.role == "bank")
    bank.kill()
    await order(stack, "run_3")

    async def passed() -> bool:
        late = await stack.metric(process, 'payments_scheduled_reconciliations_total{outcome="late"}')
        parked = await everything(stack.bootstrap, stack.prefix + topics.PAYMENTS_RECONCILIATIONS_DLQ.name)
        return late == 1 and [kafka.header(each.headers, "dlq_reason") for each in parked] == ["malformed_body"]

    await until(passed, within=60, what="one late, one parked")
    assert await kept(stack) == {}
    await stack.start("bank")
    await until_kept(stack, "run_3")
