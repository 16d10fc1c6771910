"""While a breaker before the bank is open: certain refusals, no key used up, and only the cards of that shard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from infra.native.free_ports import free_ports
from services.payments.shards import shard_of
from tests.integration.payments.stack import MERCHANT, OPS_KEY, Answer, Stack, client, until
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration

OPS = {"Authorization": f"Bearer {OPS_KEY}"}
SHARDS = 3


@pytest.fixture
async def sharded(postgres_server: PostgresServer) -> AsyncIterator[Stack]:
    """A bank of three shards and the API, which knows their addresses; the last one's is nobody's."""
    made = Stack(postgres_server)
    ports = free_ports(SHARDS + 1)
    dead, alive = ports[-1], ports[:-1]
    urls = [f"http://127.0.0.1:{port}" for port in (*alive[:-1], dead)]
    made.extra |= {
        "SIM_BANK_SHARD_PORTS": ",".join(map(str, alive)),
        "PAYMENTS_BANK_SHARDS": " ".join(urls),
        "PAYMENTS_OPS_KEY": OPS_KEY,
    }
    try:
        await made.migrate()
        await made.start("bank")
        await made.start("api")
        yield made
    finally:
        made.stop()


@pytest.fixture
async def api(stack: Stack) -> Stack:
    """Bank, resolver and API with an operators' key."""
    stack.extra["PAYMENTS_OPS_KEY"] = OPS_KEY
    await stack.start("bank")
    await asyncio.gather(stack.start("api"), stack.start("resolver"))
    return stack


async def ops(stack: Stack, method: str, shard: int | str = "", body: Any = None, **more: Any) -> Answer:
    path = f"/ops/breakers/{shard}" if shard != "" else "/ops/breakers"
    return await stack.request(method, path, json=body, **({"merchant": OPS} | more))


async def force(stack: Stack, state: str, shard: int = 0) -> None:
    assert (await ops(stack, "PUT", shard, {"state": state})).json["state"] == state


async def release(stack: Stack, shard: int = 0) -> None:
    assert (await ops(stack, "DELETE", shard)).json["forced"] is False


def is_away(answer: Answer) -> bool:
    return answer.status == 503 and answer.json["type"] == "urn:lab:bank_unavailable"


async def test_an_open_breaker_refuses_for_certain_and_uses_up_no_key(api: Stack) -> None:
    await force(api, "open")
    refused = await api.pay("one")
    assert is_away(refused)
    assert int(refused.headers["Retry-After"]) >= 1
    for table in ("payments", "operations", "idempotency_keys", "outbox"):
        assert await api.sql(f"SELECT * FROM {table}") == []
    assert await api.sql("SELECT * FROM requests", database="bank") == []
    await release(api)
    assert (await api.pay("one")).status == 201
    assert await api.captures("one") == 1


async def test_what_was_answered_before_is_answered_again_while_the_breaker_is_open(api: Stack) -> None:
    first = await api.pay("one")
    await force(api, "open")
    again = await api.pay("one")
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await api.pay("one", amount=1)).status == 422
    assert (await api.request("GET", f"/v1/payments/{first.json['id']}")).status == 200


@pytest.mark.parametrize(("path", "success"), [("capture", "captured"), ("void", "voided"), ("refunds", "refunded")])
async def test_capture_void_and_refund_are_refused_as_certainly(api: Stack, path: str, success: str) -> None:
    made = await api.pay("one", capture="automatic" if path == "refunds" else "manual")
    url = f"/v1/payments/{made.json['id']}/{path}"
    operations = await api.sql("SELECT * FROM operations")
    await force(api, "open")
    assert is_away(await api.request("POST", url, json={}, key="second"))
    assert await api.sql("SELECT * FROM operations") == operations
    assert await api.sql("SELECT * FROM idempotency_keys WHERE key = 'second'") == []
    await release(api)
    assert (await api.request("POST", url, json={}, key="second")).json["status"] == success


async def test_an_operation_that_was_begun_is_never_refused_but_left_to_the_resolver(api: Stack) -> None:
    """The breaker opens between our look at it and the call: it was written, so the answer is 202 and the truth follows."""
    await api.arm(
        next(process for process in api.processes if process.role == "api"),
        "payments.after_insert",
        "delay",
        seconds=2.5,  # half the lease: so long for this test, so long for the answer before the resolver takes over
    )
    paying = asyncio.create_task(api.pay("one"))

    async def begun() -> bool:
        return len(await api.sql("SELECT * FROM operations")) == 1

    await until(begun, what="the operation written")
    await force(api, "open")
    assert (await paying).status == 202

    async def captured() -> bool:
        return bool((await api.sql("SELECT status FROM payments"))[0]["status"] == "captured")

    await until(captured, what="the resolver, whose own breaker is closed")
    assert await api.captures("one") == 1


async def test_the_resolvers_breaker_is_held_by_hand_too(api: Stack) -> None:
    resolver = next(process for process in api.processes if process.role == "resolver")
    shut = f"{resolver.url}/ops/breakers/0"
    async with client() as session:
        async with session.put(shut, json={"state": "open"}, headers=OPS) as response:
            assert response.status == 200
        await api.behave("loses_answer", share=1)
        assert (await api.pay("one")).status == 202

        async def refused() -> bool:
            async with session.get(f"{resolver.url}/metrics") as response:
                return 'payments_bank_unknown_total{reason="breaker_open"}' in await response.text()

        await until(refused, what="the resolver held back by its breaker")
        assert (await api.sql("SELECT status FROM payments"))[0]["status"] == "processing"
        async with session.delete(shut, headers=OPS) as response:
            assert response.status == 200

    async def captured() -> bool:
        return bool((await api.sql("SELECT status FROM payments"))[0]["status"] == "captured")

    await until(captured, what="the resolver let go")
    assert await api.captures("one") == 1


def card_of(shard: int, number: int = 0) -> str:
    """The `number`th reference whose card `tok_<reference>` belongs to a shard."""
    found = (f"r{n}" for n in range(10_000) if shard_of(f"tok_r{n}", SHARDS) == shard)
    for _ in range(number):
        next(found)
    return next(found)


async def test_a_dead_shard_takes_down_its_own_cards_only(sharded: Stack) -> None:
    dead = SHARDS - 1
    answers = await asyncio.gather(*(sharded.pay(card_of(dead, number)) for number in range(25)))
    assert {answer.status for answer in answers} <= {202, 503}

    async def refused() -> bool:
        return is_away(await sharded.pay("x" + card_of(dead), source=f"tok_{card_of(dead)}"))

    await until(refused, what="the dead shard's breaker open")
    for shard in range(dead):
        for number in range(5):
            assert (await sharded.pay(card_of(shard, number))).status == 201
    states = {one["shard"]: one["state"] for one in (await ops(sharded, "GET")).json}
    assert states["0"] == states["1"] == "closed"
    assert states["2"] in ("open", "half_open")


async def test_the_bank_records_which_shard_was_called_and_it_is_the_cards_own(sharded: Stack) -> None:
    for shard in (0, 1):
        await sharded.pay(card_of(shard))
    rows = await sharded.sql("SELECT source, shard FROM requests WHERE path = '/v1/charges'", database="bank")
    assert {row["source"]: row["shard"] for row in rows} == {f"tok_{card_of(shard)}": shard for shard in (0, 1)}


async def test_the_metrics_tell_each_shards_state_and_refusals(sharded: Stack) -> None:
    await force(sharded, "open", 1)
    assert is_away(await sharded.pay(card_of(1)))
    async with client() as session, session.get(f"http://127.0.0.1:{sharded.ports['api']}/metrics") as response:
        text = await response.text()
    assert 'payments_bank_breaker_state{shard="1"} 2.0' in text
    assert 'payments_bank_breaker_state{shard="0"} 0.0' in text
    assert 'payments_bank_refused_total{shard="1"} 1.0' in text
    assert 'payments_bank_breaker_changes_total{reason="forced",shard="1",state="open"} 1.0' in text


@pytest.mark.parametrize(
    ("method", "shard", "body", "status", "code"),
    [
        ("PUT", 7, {"state": "open"}, 404, "no_such_shard"),
        ("DELETE", "x", None, 404, "no_such_shard"),
        ("PUT", 0, {"state": "half_open"}, 422, "invalid_request"),
        ("PUT", 0, {"state": 1}, 422, "invalid_request"),
        ("PUT", 0, {}, 422, "invalid_request"),
        ("PUT", 0, {"state": "open", "for": 3}, 422, "invalid_request"),
        ("PUT", 0, [], 422, "invalid_request"),
        ("POST", 0, {"state": "open"}, 405, "method_not_allowed"),
    ],
)
async def test_every_bad_order_of_an_operator_has_its_problem(
    running: Stack, method: str, shard: int | str, body: Any, status: int, code: str
) -> None:
    answer = await ops(running, method, shard, body)
    assert (answer.status, answer.json["type"]) == (status, f"urn:lab:{code}")


async def test_operators_need_their_own_key(running: Stack) -> None:
    for headers in ({}, MERCHANT, {"Authorization": "Bearer "}, {"Authorization": OPS_KEY}):
        for method, body in (("GET", None), ("PUT", {"state": "open"}), ("DELETE", None)):
            answer = await ops(running, method, 0 if body or method == "DELETE" else "", body, merchant=headers)
            assert (answer.status, answer.json["type"]) == (401, "urn:lab:unauthorised")
    garbage = await running.request(
        "PUT", "/ops/breakers/0", data=b"\xff{", merchant=OPS, headers={"Content-Type": "application/json"}
    )
    assert garbage.status == 400


async def test_without_an_operators_key_there_are_no_such_endpoints(stack: Stack) -> None:
    await stack.start("api")
    assert (await ops(stack, "GET")).status == 404


async def test_a_shard_refuses_a_card_of_another(sharded: Stack) -> None:
    port = int(sharded.extra["SIM_BANK_SHARD_PORTS"].split(",")[0])
    body = {"reference": None, "source": f"tok_{card_of(1)}", "amount": 1, "currency": "EUR", "capture": True}
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer lab-only-test-bank-key"}) as session:
        async with session.post(f"http://127.0.0.1:{port}/v1/charges", json=body) as response:
            assert response.status == 421
            assert (await response.json())["type"] == "urn:bank:wrong_shard"
        async with session.post(f"http://127.0.0.1:{sharded.ports['bank']}/v1/charges", json=body) as response:
            assert response.status == 201
