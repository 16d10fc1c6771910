"""Clients that stop in the middle of a body."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.payments.stack import Stack, client, until

pytestmark = pytest.mark.integration


async def test_bodies_that_never_end_do_not_use_up_the_places_of_others(stack: Stack) -> None:
    stack.extra = {"PAYMENTS_MAX_IN_FLIGHT": "2"}
    await stack.start("bank")
    await stack.start("api")
    half = b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n%s\r\n{"
    keyed = b"Authorization: Bearer lab_demo_merchant_key\r\nIdempotency-Key: half\r\n"
    writers = []
    try:
        for request in (b"POST /v1/bank-events" + half % b"", b"POST /v1/payments" + half % keyed):
            _, writer = await asyncio.open_connection("127.0.0.1", stack.ports["api"])
            writers.append(writer)
            writer.write(request)
            await writer.drain()

        async def taken_in() -> bool:
            async with client() as session, session.get(f"http://127.0.0.1:{stack.ports['api']}/metrics") as answer:
                return "http_server_active_requests 3.0" in await answer.text()

        await until(taken_in, what="the half requests")
        assert (await stack.pay("whole")).status == 201
    finally:
        for writer in writers:
            writer.close()


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_is_no_error_of_ours(stack: Stack) -> None:
    await stack.start("bank")
    api = await stack.start("api")
    _, writer = await asyncio.open_connection("127.0.0.1", stack.ports["api"])
    writer.write(
        b"POST /v1/payments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer lab_demo_merchant_key\r\nIdempotency-Key: half\r\n"
        b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    await writer.drain()

    async def metrics() -> str:
        async with client() as session, session.get(f"{api.url}/metrics") as answer:
            return await answer.text()

    async def begun() -> bool:
        return "http_server_active_requests 2.0" in await metrics()

    await until(begun, what="the half request")
    writer.close()

    async def counted() -> bool:
        return 'route="/v1/payments"' in await metrics()

    await until(counted, what="its end")
    assert 'status="500"' not in await metrics()
    assert "unhandled" not in api.log.read_text()
