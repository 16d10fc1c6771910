"""A bank of fixed capacity: an unbounded queue, first in first out, and work that nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import asyncpg
import pytest

from labs.invariants import timeouts
from tests.integration.bank.conftest import BankProcess, Client

pytestmark = pytest.mark.integration

FOR_EVER_MS = 60_000


@pytest.fixture
def bank(bank_database: str) -> Iterator[BankProcess]:
    """One for each test: a worker that has begun a slow charge stays with it."""
    process = BankProcess(bank_database)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def slow(client: Client) -> Client:
    """One worker that takes a minute: what is sent to it stays in the queue until the test changes that."""
    await client.behave("workers", count=1, service_ms=FOR_EVER_MS)
    return client


async def lines(record: asyncpg.Connection, reference: str) -> list[str]:
    rows = await record.fetch("SELECT outcome FROM requests WHERE reference = $1 ORDER BY at, id", reference)
    return [row["outcome"] for row in rows]


async def until_lines(record: asyncpg.Connection, reference: str, wanted: list[str]) -> None:
    async with asyncio.timeout(10):
        while await lines(record, reference) != wanted:  # noqa: ASYNC110  another process writes them
            await asyncio.sleep(0.01)


async def hang_up_on(client: Client, record: asyncpg.Connection, reference: str) -> None:
    """Send a charge, and leave once it is in the queue, before it is served."""
    charge = asyncio.create_task(client.charge(reference))
    async with asyncio.timeout(10):
        while "arrived" not in await lines(record, reference):  # noqa: ASYNC110  another process writes them
            await asyncio.sleep(0.01)
    assert charge.cancel()
    await asyncio.gather(charge, return_exceptions=True)


async def test_charges_are_served_in_the_order_of_their_arrival(
    slow: Client, record: asyncpg.Connection, reference: str
) -> None:
    names = [f"{reference}-{n}" for n in range(5)]
    charges = []
    for name in names:
        charges.append(asyncio.create_task(slow.charge(name)))
        await until_lines(record, name, ["arrived"])
    await slow.behave("workers", count=1, service_ms=5)
    await slow.behave(
        "workers", count=2, service_ms=5
    )  # the first is still with its slow worker: a second takes the rest
    answers = await asyncio.gather(*charges[1:])
    assert {status for status, _ in answers} == {201}
    created = [body["created_at"] for _, body in answers]
    assert created == sorted(created)
    charges[0].cancel()


async def test_each_arrival_is_on_record_before_it_is_served_and_again_when_it_was(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    await client.behave("workers", count=2, service_ms=1)
    assert (await client.charge(reference))[0] == 201
    await until_lines(record, reference, ["arrived", "captured"])
    assert (await client.charge(reference))[0] == 200
    await until_lines(record, reference, ["arrived", "captured", "arrived", "replayed"])


async def test_a_charge_whose_caller_has_left_is_executed_all_the_same(
    slow: Client, record: asyncpg.Connection, reference: str
) -> None:
    await hang_up_on(slow, record, reference + "-first")
    await hang_up_on(slow, record, reference)
    assert await record.fetchval("SELECT count(*) FROM charges WHERE reference = $1", reference) == 0
    await slow.behave("workers", count=2, service_ms=1)
    await until_lines(record, reference, ["arrived", "captured"])


async def test_a_refusal_without_a_caller_is_on_record_too(
    slow: Client, record: asyncpg.Connection, reference: str
) -> None:
    await slow.call("POST", f"/v1/operations/{reference}/cancel")
    await hang_up_on(slow, record, reference + "-first")
    await hang_up_on(slow, record, reference)
    await slow.behave("workers", count=2, service_ms=1)
    await until_lines(record, reference, ["cancelled", "arrived", "reference_cancelled"])


async def test_another_factor_takes_effect_without_losing_the_queue(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    await client.behave("workers", count=1, service_ms=100, factor=600)
    for n in range(4):
        await hang_up_on(client, record, f"{reference}-{n}")
    receipt = await client.receipt("workers")
    assert (receipt["hits"], receipt["references"]) == (1, [f"{reference}-0"])
    await client.behave("workers", count=2, service_ms=1, factor=1)
    for n in range(1, 4):
        await until_lines(record, f"{reference}-{n}", ["arrived", "captured"])
    assert (await client.receipt("workers"))["hits"] == 0


async def test_switched_off_the_queue_is_worked_off_at_once(
    slow: Client, record: asyncpg.Connection, reference: str
) -> None:
    for n in range(3):
        await hang_up_on(slow, record, f"{reference}-{n}")
    await slow.call("DELETE", "/lab/behaviours/workers")
    for n in (1, 2):
        await until_lines(record, f"{reference}-{n}", ["arrived", "captured"])
    assert (await slow.charge(reference))[0] == 201
    await until_lines(record, reference, ["captured"])


async def test_questions_and_cancellations_do_not_queue(
    slow: Client, record: asyncpg.Connection, reference: str
) -> None:
    await hang_up_on(slow, record, reference)
    async with asyncio.timeout(10):
        assert (await slow.call("GET", f"/v1/operations/{reference}"))[0] == 404
        status, body = await slow.call("POST", f"/v1/operations/{reference}-other/cancel")
    assert (status, body["status"]) == (200, "cancelled")


async def test_the_checker_counts_every_arrival_and_every_question(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    await client.behave("workers", count=2, service_ms=1)
    asked = await record.fetchval(timeouts.QUESTIONS)
    for _ in range(3):
        await client.charge(reference, source=f"tok_{reference}")
    await client.call("GET", f"/v1/operations/{reference}")
    await client.call("POST", f"/v1/operations/{reference}/cancel")
    await until_lines(
        record, reference, ["arrived", "captured", "arrived", "replayed", "arrived", "replayed", "found", "executed"]
    )
    arrived = {row["source"]: row["arrived"] for row in await record.fetch(timeouts.ARRIVALS)}
    assert arrived[f"tok_{reference}"] == 3
    assert await record.fetchval(timeouts.QUESTIONS) - asked == 2


async def test_the_length_of_the_queue_is_a_metric(slow: Client, record: asyncpg.Connection, reference: str) -> None:
    for n in range(3):
        await hang_up_on(slow, record, f"{reference}-{n}")
    _, text = await slow.call("GET", "/metrics")
    assert "sim_bank_queued_charges 2.0" in text.splitlines()


def test_behaviours_of_the_settings_are_on_from_the_start(bank_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_BANK_BEHAVIOURS", '{"workers": {"count": 7, "service_ms": 30}}')
    process = BankProcess(bank_database)
    process.start()
    try:
        with urllib.request.urlopen(f"{process.url}/lab/behaviours", timeout=5) as answer:
            (line,) = json.load(answer)
    finally:
        process.kill()
    assert line["active"]
    assert line["parameters"] == {"seed": 0, "count": 7, "service_ms": 30.0, "factor": 1.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"works": {}}', "there is no behaviour 'works'"),
        ('{"workers": {"count": 1}}', "service_ms"),
        ("workers", "malformed"),
        ("[]", "Expected `object`"),
    ],
)
def test_wrong_behaviours_stop_the_start_with_the_name_of_the_setting(
    bank_database: str, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("SIM_BANK_BEHAVIOURS", text)
    environment = os.environ | {
        "LAB_PROFILE": "1",
        "HTTP_PORT": "1",
        "SIM_BANK_DATABASE_URL": bank_database,
        "SIM_BANK_API_KEY": "a-key-of-the-test",
    }
    found = subprocess.run(
        [sys.executable, "-m", "services.simulators.bank"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 1
    assert "SIM_BANK_BEHAVIOURS" in found.stderr
    assert said in found.stderr
