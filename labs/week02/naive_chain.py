"""Checkout and payments with the timeouts and retries that most people would write: 1 s, three attempts, at each hop.

`python -m labs.week02.naive_chain checkout|payments`. Each hop is reasonable by itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from prometheus_client import REGISTRY, Counter, generate_latest

from services.kit import ids

TIMEOUT = aiohttp.ClientTimeout(total=1)
PAUSES = (0.1, 0.2)

ATTEMPTS = Counter("naive_attempts_total", "Calls to the next hop", ["outcome"])
NEXT = web.AppKey("next", aiohttp.ClientSession)


class Order(msgspec.Struct):
    amount: int
    currency: str
    source: str
    reference: str


class Done(msgspec.Struct):
    id: str
    status: str


async def post(session: aiohttp.ClientSession, path: str, body: object) -> Done:
    """Three attempts. The reference is always the same, so at least nobody is charged twice."""
    for pause in (*PAUSES, None):
        try:
            async with session.post(path, json=body) as answer:
                answer.raise_for_status()
                done = msgspec.json.decode(await answer.read(), type=Done)
                ATTEMPTS.labels("answered").inc()
                return done
        except (aiohttp.ClientError, TimeoutError) as error:
            ATTEMPTS.labels(type(error).__name__).inc()
            if pause is None:
                raise
            await asyncio.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


async def checkout(request: web.Request) -> web.Response:
    """Have payments charge the card."""
    order = await _order(request)
    try:
        payment = await post(request.app[NEXT], "/v1/payments", msgspec.to_builtins(order))
    except (aiohttp.ClientError, TimeoutError):
        return problem(502, "Payments does not answer")
    return web.json_response(
        {"id": ids.encode("chk", ids.uuid7()), "payment": payment.id, "status": "paid"}, status=201
    )


async def payments(request: web.Request) -> web.Response:
    """Have the bank charge the card."""
    order = await _order(request)
    try:
        charge = await post(request.app[NEXT], "/v1/charges", {**msgspec.to_builtins(order), "capture": True})
    except (aiohttp.ClientError, TimeoutError):
        return problem(502, "The bank does not answer")
    return web.json_response({"id": f"pay_{charge.id.removeprefix('ch_')}", "status": charge.status}, status=201)


async def _order(request: web.Request) -> Order:
    try:
        return msgspec.json.decode(await request.read(), type=Order)
    except msgspec.MsgspecError as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from None


def problem(status: int, title: str) -> web.Response:
    return web.json_response({"status": status, "title": title}, status=status, content_type="application/problem+json")


async def healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": "text/plain; version=0.0.4"})


async def client(url: str, key: str, app: web.Application) -> AsyncIterator[None]:
    # Unlimited, as in most HTTP clients; aiohttp's own default of 100 would be a bulkhead that nobody has asked for.
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(url, connector=connector, timeout=TIMEOUT, headers=headers) as app[NEXT]:
        yield


def application(role: str, next_hop: str, key: str) -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(partial(client, next_hop, key))
    app.router.add_get("/health/live", healthy)
    app.router.add_get("/health/ready", healthy)
    app.router.add_get("/metrics", metrics)
    if role == "checkout":
        app.router.add_post("/v1/checkouts", checkout)
    else:
        app.router.add_post("/v1/payments", payments)
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[1], os.environ["NAIVE_NEXT_URL"], os.environ.get("NAIVE_NEXT_API_KEY", "")),
        host=os.environ["HTTP_HOST"],
        port=int(os.environ["HTTP_PORT"]),
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
        shutdown_timeout=5,
    )
