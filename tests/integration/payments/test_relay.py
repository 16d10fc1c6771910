"""The outbox reaches Kafka whole and in order, whoever dies or dawdles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from services.contracts.payments import PaymentEvent
from services.kit import ids
from services.payments.relay import Relay
from tests.integration.payments.stack import Stack, until
from tests.records import some
from tests.servers import PostgresServer, throwaway_kafka

pytestmark = pytest.mark.integration

INSERT = """
INSERT INTO outbox (payment_id, sequence, event_id, type, body, traceparent, created_at)
VALUES ($1, $2, gen_random_uuid(), 'payments.payment.captured', $3, NULL, now())
"""


async def empty(stack: Stack) -> bool:
    return not await stack.sql("SELECT 1 FROM outbox LIMIT 1")


@asynccontextmanager
async def relaying(stack: Stack, **settings: float) -> AsyncIterator[Relay]:
    relay = Relay(stack.settings(**settings), stack.topic)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task  # a relay that ended by itself is the reason for whatever failed above


async def records(stack: Stack) -> list[tuple[str, int]]:
    """Payment and sequence of all that is on the topic, in order per partition."""
    return [
        ((record.key or b"").decode(), msgspec.json.decode(record.value or b"")["sequence"])
        for record in await stack.records()
    ]


def body(sequence: int) -> bytes:
    return msgspec.json.encode({"sequence": sequence})


async def fill(stack: Stack, payments: int, events_each: int) -> None:
    """Events of many payments, interleaved."""
    db = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        identities = [uuid4() for _ in range(payments)]
        rows = [(each, n, body(n)) for n in range(1, events_each + 1) for each in identities]
        await db.executemany(INSERT, rows)
    finally:
        await db.close()


def assert_whole_and_ordered(found: list[tuple[str, int]], payments: int, events_each: int) -> None:
    by_payment: dict[str, list[int]] = {}
    for payment, sequence in found:
        by_payment.setdefault(payment, []).append(sequence)
    assert len(by_payment) == payments
    for sequences in by_payment.values():
        assert set(sequences) == set(range(1, events_each + 1))
        assert all(before <= then for before, then in pairwise(sequences))


async def test_an_event_has_cloudevents_headers_the_payments_key_and_the_callers_trace(kafka_stack: Stack) -> None:
    stack = kafka_stack
    await stack.start("bank")
    await stack.start("api")
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    request = {"amount": 1000, "currency": "EUR", "source": "tok_t", "reference": "t"}
    made = await stack.request("POST", "/v1/payments", json=request, key="t", headers={"traceparent": trace})
    async with relaying(stack):
        await until(lambda: empty(stack))
    (record,) = await some(stack.bootstrap, stack.topic)
    heads = {name: (value or b"").decode() for name, value in record.headers}
    assert (record.key or b"").decode() == heads["ce_subject"] == made.json["id"]
    assert heads["ce_type"] == "payments.payment.captured"
    assert heads["ce_specversion"] == "1.0"
    assert heads["ce_id"].startswith("evt_")
    assert heads["traceparent"][3:35] == "ab" * 16
    event = msgspec.json.decode(record.value or b"", type=PaymentEvent)
    assert (event.payment_id, event.status, event.captured_amount, event.sequence) == (
        made.json["id"],
        "captured",
        1000,
        1,
    )


async def test_a_row_whose_transaction_commits_late_is_not_skipped(kafka_stack: Stack) -> None:
    stack = kafka_stack
    late = await asyncpg.connect(stack.postgres.url(stack.database))
    transaction = late.transaction()
    await transaction.start()
    await late.execute(INSERT, uuid4(), 1, body(1))
    await fill(stack, 20, 1)
    (drawn,) = await late.fetch("SELECT max(id) AS id FROM outbox")
    async with relaying(stack):
        await until(lambda: empty(stack), what="the rows with greater ids on the topic")
        assert len(await records(stack)) == 20
        await transaction.commit()
        await until(lambda: empty(stack), what="the late row on the topic")
    await late.close()
    assert drawn["id"] > 1
    assert_whole_and_ordered(await records(stack), 21, 1)


async def test_transactions_held_open_here_or_in_another_database_do_not_stall_it(
    kafka_stack: Stack, postgres_server: PostgresServer
) -> None:
    stack = kafka_stack
    held = [await asyncpg.connect(url) for url in (postgres_server.admin_url, postgres_server.url(stack.database))]
    for db in held:
        await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await db.execute("SELECT pg_current_xact_id()")
    async with relaying(stack):
        await fill(stack, 10, 1)
        await until(lambda: empty(stack))
    for db in held:
        await db.close()
    assert_whole_and_ordered(await records(stack), 10, 1)


async def test_events_of_a_payment_keep_their_order_over_small_batches_and_two_relays(kafka_stack: Stack) -> None:
    stack = kafka_stack
    await fill(stack, 5, 40)
    async with relaying(stack, relay_batch=17) as one, relaying(stack, relay_batch=17) as other:
        await until(lambda: empty(stack))
        assert one.active != other.active
    assert_whole_and_ordered(await records(stack), 5, 40)


async def test_a_relay_standing_by_takes_over_when_the_active_one_dies(kafka_stack: Stack) -> None:
    stack = kafka_stack
    first = await stack.start("relay")
    async with relaying(stack) as second:

        async def standing_by() -> bool:
            return second.database_ok and second.broker_ok

        await until(standing_by)
        assert not second.active
        first.kill()

        async def took_over() -> bool:
            return second.active

        await until(took_over)
        await fill(stack, 5, 2)
        await until(lambda: empty(stack))
    assert_whole_and_ordered(await records(stack), 5, 2)


async def test_a_backlog_of_a_long_outage_is_drained(kafka_stack: Stack) -> None:
    stack = kafka_stack
    await fill(stack, 5000, 1)
    async with relaying(stack):
        await until(lambda: empty(stack))
    assert_whole_and_ordered(await records(stack), 5000, 1)


async def test_its_database_connection_cut_off_is_made_again(kafka_stack: Stack) -> None:
    stack = kafka_stack
    cut: list[int] = []

    async def cut_a_new_one() -> bool:
        rows = await stack.sql(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'payments-relay' AND datname = $1 AND pid <> ALL($2::int[])",
            stack.database,
            cut,
        )
        cut.extend(row["pid"] for row in rows)
        return bool(rows)

    async with relaying(stack, relay_poll_seconds=0.001):
        # Many times: what the driver raises depends on where it is hit (four in ten times InternalClientError).
        for _ in range(12):
            await until(cut_a_new_one)
        await fill(stack, 5, 1)
        await until(lambda: empty(stack))
    assert_whole_and_ordered(await records(stack), 5, 1)


@pytest.mark.slow
async def test_a_killed_broker_delays_events_and_loses_none(postgres_server: PostgresServer) -> None:
    with throwaway_kafka() as broker:
        stack = Stack(postgres_server, broker.bootstrap)
        await stack.migrate()
        await stack.create_topics()
        async with relaying(stack):
            await fill(stack, 10, 1)
            await until(lambda: empty(stack))
            await asyncio.to_thread(broker.life.kill)
            await fill(stack, 200, 3)
            await asyncio.to_thread(broker.life.start)
            await until(lambda: empty(stack), within=60)
            found = await records(stack)
    events = sorted({(payment, sequence) for payment, sequence in found})
    assert len(events) == 10 + 600
    assert ids.decode("pay", found[0][0]) is not None
