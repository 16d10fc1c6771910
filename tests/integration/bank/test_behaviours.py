from __future__ import annotations

import asyncio
import csv
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from infra.native.free_ports import free_ports
from tests.integration.bank.conftest import SECRET, BankProcess, Client
from tests.midnight import far_from_midnight
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration


async def until(condition: Callable[[], bool], bound: float = 10.0) -> None:
    async with asyncio.timeout(bound):
        while not condition():  # noqa: ASYNC110  what is waited for happens in another process
            await asyncio.sleep(0.01)


async def charged(record: asyncpg.Connection, reference: str) -> int:
    found: int = await record.fetchval("SELECT count(*) FROM charges WHERE reference = $1", reference)
    return found


async def test_an_error_before_charges_nothing(client: Client, record: asyncpg.Connection, reference: str) -> None:
    await client.behave("error_before", share=1)
    status, problem = await client.charge(reference)
    assert (status, problem["type"]) == (500, "urn:bank:internal_error")
    assert await charged(record, reference) == 0
    receipt = await client.receipt("error_before")
    assert (receipt["hits"], receipt["references"], receipt["active"]) == (1, [reference], True)


async def test_an_error_after_has_charged(client: Client, record: asyncpg.Connection, reference: str) -> None:
    await client.behave("error_after", share=1)
    assert (await client.charge(reference))[0] == 500
    assert await charged(record, reference) == 1
    assert (await client.receipt("error_after"))["references"] == [reference]


async def test_a_lost_answer_has_charged_and_leaves_the_client_waiting(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    await client.behave("loses_answer", share=1)
    posting = asyncio.create_task(client.charge(reference, amount=5))
    async with asyncio.timeout(30):
        while not await charged(record, reference):  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.02)
    answered, _ = await asyncio.wait({posting}, timeout=0.3)
    assert not answered
    posting.cancel()
    await asyncio.gather(posting, return_exceptions=True)
    assert await charged(record, reference) == 1
    outcome = await record.fetchrow("SELECT outcome, behaviour FROM requests WHERE reference = $1", reference)
    assert outcome is not None
    assert tuple(outcome) == ("captured", "loses_answer")
    await client.call("DELETE", "/lab/behaviours/loses_answer")
    receipt = await client.receipt("loses_answer")
    assert (receipt["hits"], receipt["references"], receipt["active"]) == (1, [reference], False)
    assert (await client.charge(reference, amount=5))[0] == 200


async def test_a_lost_answer_without_reference_is_named_by_its_charge(
    client: Client, record: asyncpg.Connection
) -> None:
    await client.behave("loses_answer", share=1, hold_seconds=0)
    assert (await client.charge(None, source="tok_lost"))[0] == 504
    charge = await record.fetchval("SELECT id FROM charges WHERE source = 'tok_lost'")
    assert (await client.receipt("loses_answer"))["references"] == [charge]


async def test_declines_are_final_answers(client: Client, record: asyncpg.Connection, reference: str) -> None:
    await client.behave("declines", share=1)
    status, answer = await client.charge(reference)
    assert (status, answer["status"], answer["decline_code"]) == (201, "declined", "insufficient_funds")
    await client.call("DELETE", "/lab/behaviours/declines")
    assert await client.charge(reference) == (200, answer)
    assert await record.fetchval("SELECT count(*) FROM effects WHERE reference = $1", reference) == 0
    assert (await client.receipt("declines"))["hits"] == 1


async def test_the_rate_limit_refuses_with_retry_after_and_charges_nothing(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    await client.behave("rate_limit", per_second=0.01)
    answers = [await client.charge(f"{reference}-{number}") for number in range(5)]
    assert [status for status, _ in answers] == [201, 429, 429, 429, 429]
    assert answers[1][1]["type"] == "urn:bank:rate_limited"
    assert await record.fetchval("SELECT count(*) FROM charges WHERE reference LIKE $1", f"{reference}-%") == 1
    assert (await client.receipt("rate_limit"))["hits"] == 4


async def test_latency_delays_every_call(client: Client, reference: str) -> None:
    await client.behave("latency", mean_ms=200, sigma=0)
    started = asyncio.get_running_loop().time()
    await client.charge(reference)
    await client.call("GET", f"/v1/operations/{reference}")
    assert asyncio.get_running_loop().time() - started > 0.39
    assert (await client.receipt("latency"))["hits"] == 2


async def test_a_lagging_status_denies_what_was_charged(client: Client, reference: str) -> None:
    await client.charge(reference)
    await client.behave("status_lags", seconds=3600)
    assert (await client.call("GET", f"/v1/operations/{reference}"))[0] == 404
    assert (await client.call("POST", f"/v1/operations/{reference}/cancel"))[1]["status"] == "executed"
    assert (await client.receipt("status_lags"))["references"] == [reference]
    await client.behave("status_lags", seconds=0)
    assert (await client.call("GET", f"/v1/operations/{reference}"))[0] == 200


async def test_the_same_seed_hits_the_same_calls(client: Client, reference: str) -> None:
    async def hit(seed: int, run: str) -> list[int]:
        await client.behave("error_before", share=0.3, seed=seed)
        return [number for number in range(40) if (await client.charge(f"{reference}-{run}-{number}"))[0] == 500]

    first, again, other = await hit(7, "a"), await hit(7, "b"), await hit(8, "c")
    assert first == again
    assert first != other
    assert 3 <= len(first) <= 25


async def test_a_share_of_zero_changes_nothing(client: Client, reference: str) -> None:
    for name in ("error_before", "error_after", "loses_answer", "declines"):
        await client.behave(name, share=0)
    assert (await client.charge(reference))[0] == 201
    for name in ("error_before", "error_after", "loses_answer", "declines"):
        assert (await client.receipt(name))["hits"] == 0


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("no_such", {}, 404), ("declines", {}, 422), ("declines", {"share": 1.5}, 422),
        ("declines", {"share": "1"}, 422), ("declines", {"share": 1, "other": 1}, 422), ("rate_limit", {"per_second": 0}, 422),
        ("latency", {"mean_ms": -1}, 422), ("duplicate_webhooks", {"copies": 0}, 422), ("status_lags", [], 422),
        ("workers", {}, 422), ("workers", {"count": 0, "service_ms": 1}, 422), ("workers", {"count": 1, "service_ms": 0}, 422),
        ("workers", {"count": 1, "service_ms": 1, "factor": 0}, 422), ("workers", {"count": "1", "service_ms": 1}, 422),
        ("workers", {"count": 1.5, "service_ms": 1}, 422), ("workers", {"count": 1, "service_ms": 1, "speed": 2}, 422),
        ("workers", {"count": 100_000, "service_ms": 1}, 422),
    ],
)  # fmt: skip
async def test_a_wrong_switch_is_refused_with_a_reason(client: Client, name: str, body: object, status: int) -> None:
    answer = await client.call("PUT", f"/lab/behaviours/{name}", body)
    assert answer[0] == status
    assert answer[1]["detail"]


async def test_switching_off_is_idempotent(client: Client) -> None:
    for _ in range(2):
        assert (await client.call("DELETE", "/lab/behaviours/declines"))[0] == 204
    assert (await client.call("DELETE", "/lab/behaviours/no_such"))[0] == 404


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


async def test_the_settlement_file_holds_each_capture_and_refund_of_the_day(client: Client, reference: str) -> None:
    await far_from_midnight()
    _, charge = await client.charge(reference, source="tok_settled")
    await client.call("POST", f"/v1/charges/{charge['id']}/refunds", {"reference": f"{reference}-r", "amount": 300})
    day = datetime.now(UTC).date()
    status, text = await client.call("GET", f"/v1/settlements/{day}.csv")
    lines = [line for line in rows(text) if line["charge_id"] == charge["id"]]
    assert status == 200
    assert [(line["reference"], line["kind"], line["amount"]) for line in lines] == [
        (reference, "capture", "1000"), (f"{reference}-r", "refund", "300"),
    ]  # fmt: skip
    assert {(line["currency"], line["source"]) for line in lines} == {("EUR", "tok_settled")}


async def test_settlement_mistakes_are_planted_by_seed_and_counted_once(postgres_server: PostgresServer) -> None:
    await far_from_midnight()
    # A bank of its own: a receipt names no more than the first hundred mistakes, whosever charges they are.
    bank = BankProcess(postgres_server.url("bank_mistakes"))
    bank.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, bank.url)
            charges = {(await client.charge(f"mistaken-{number}"))[1]["id"] for number in range(60)}
            path = f"/v1/settlements/{datetime.now(UTC).date()}.csv"
            await client.behave("settlement_mistakes", missing=0.2, duplicate=0.2, wrong_amount=0.2, seed=3)
            _, text = await client.call("GET", path)
            assert (await client.call("GET", path))[1] == text
            receipt = await client.receipt("settlement_mistakes")
    finally:
        assert bank.stop() == 0
    lines = rows(text)
    count = Counter(line["charge_id"] for line in lines)
    assert set(count) <= charges
    assert receipt["hits"] == len(receipt["references"])
    planted: dict[str, set[str]] = {"missing": set(), "duplicate": set(), "wrong_amount": set()}
    for name in receipt["references"]:
        kind, charge = name.split(":")
        planted[kind].add(charge)
    assert planted["missing"] == charges - set(count)
    assert planted["duplicate"] == {charge for charge, times in count.items() if times == 2}
    assert planted["wrong_amount"] == {line["charge_id"] for line in lines if line["amount"] != "1000"}


async def test_webhooks_are_signed_and_sent_as_often_as_asked(postgres_server: PostgresServer) -> None:
    received: list[tuple[dict[str, Any], bool]] = []

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        fields = dict(part.split("=", 1) for part in request.headers["Bank-Signature"].split(","))
        wanted = hmac.new(SECRET.encode(), fields["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
        received.append((json.loads(body), hmac.compare_digest(wanted, fields["v1"])))
        return web.Response(status=200 if len(received) > 1 else 503)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    bank = BankProcess(postgres_server.url("bank_hooks"), webhook_url=f"http://127.0.0.1:{port}/hook")
    bank.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, bank.url)
            await client.charge("silent")
            await client.behave("webhooks")
            _, answer = await client.charge("once")
            await client.charge("once")
            await until(lambda: len(received) == 2)
            await client.behave("duplicate_webhooks", copies=3)
            await client.charge("thrice")
            await until(lambda: len(received) == 5)
    finally:
        assert bank.stop() == 0
        await runner.cleanup()
    assert all(right for _, right in received)
    assert [event["reference"] for event, _ in received] == ["once", "once", "thrice", "thrice", "thrice"]
    assert received[1][0]["operation"] == answer
    assert len({event["id"] for event, _ in received}) == 2


async def test_metrics_count_charges_and_hits(client: Client, reference: str) -> None:
    await client.behave("error_after", share=1)
    await client.charge(reference)
    _, text = await client.call("GET", "/metrics")
    assert 'sim_bank_charges_total{status="captured"}' in text
    assert 'sim_bank_behaviour_hits_total{behaviour="error_after"}' in text
    assert 'route="/v1/charges",status="500"' in text
