"""The naive chain of day 1 multiplies: it is seen to do so, and to do nothing else wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from infra.native.free_ports import free_ports
from labs.week02 import naive_chain

pytestmark = pytest.mark.integration

ORDER = {"amount": 500, "currency": "EUR", "source": "tok_r-1", "reference": "r-1"}


@dataclass
class FakeBank:
    """Answers `status`; while `open` is not set, nothing."""

    status: int = 201
    open: asyncio.Event = field(default_factory=asyncio.Event)
    orders: Counter[str] = field(default_factory=Counter)

    async def charge(self, request: web.Request) -> web.Response:
        order = await request.json()
        assert request.headers["Authorization"] == "Bearer bank-key"
        assert set(order) == {"amount", "currency", "source", "reference", "capture"}
        self.orders[order["reference"]] += 1
        await self.open.wait()
        return web.json_response({"id": "ch_1", "status": "captured"}, status=self.status)


@dataclass
class Chain:
    bank: FakeBank
    session: aiohttp.ClientSession
    checkout: str
    payments: str

    async def check_out(self, body: object = ORDER) -> tuple[int, str]:
        async with self.session.post(f"{self.checkout}/v1/checkouts", json=body) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """As `web.run_app` serves it: a handler goes on when its caller has left (aiohttp's own TestServer cancels it)."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        (port,) = free_ports(1)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def chain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chain]:
    """Both programs before a bank, with short pauses. The parameter is how long they wait for an answer."""
    monkeypatch.setattr(naive_chain, "TIMEOUT", aiohttp.ClientTimeout(total=getattr(request, "param", 10)))
    monkeypatch.setattr(naive_chain, "PAUSES", (0.01, 0.02))
    bank = FakeBank()
    app = web.Application()
    app.router.add_post("/v1/charges", bank.charge)
    async with (
        served(app) as bank_url,
        served(naive_chain.application("payments", bank_url, "bank-key")) as payments,
        served(naive_chain.application("checkout", payments, "")) as checkout,
        aiohttp.ClientSession() as session,
    ):
        yield Chain(bank, session, checkout, payments)
        bank.open.set()


async def test_a_bank_that_answers_is_asked_once(chain: Chain) -> None:
    chain.bank.open.set()
    status, body = await chain.check_out()
    assert status == 201
    assert '"payment": "pay_1"' in body
    assert '"status": "paid"' in body
    assert chain.bank.orders == {"r-1": 1}


@pytest.mark.parametrize("chain", [0.3], indirect=True)
async def test_a_bank_that_is_silent_is_asked_nine_times_for_one_checkout(chain: Chain) -> None:
    status, body = await chain.check_out()
    assert (status, "does not answer" in body) == (502, True)
    async with asyncio.timeout(10):
        while chain.bank.orders["r-1"] < 9:  # noqa: ASYNC110  nobody tells when payments gives up for good
            await asyncio.sleep(0.01)
    async with chain.session.get(f"{chain.payments}/metrics") as answer:
        assert "naive_attempts_total" in await answer.text()
    assert chain.bank.orders == {"r-1": 9}


async def test_an_error_of_the_bank_is_tried_again_too(chain: Chain) -> None:
    chain.bank.open.set()
    chain.bank.status = 500
    assert (await chain.check_out())[0] == 502
    assert chain.bank.orders == {"r-1": 9}


@pytest.mark.parametrize("body", [{}, [], {**ORDER, "amount": "much"}])
async def test_what_is_no_order_goes_no_further(chain: Chain, body: object) -> None:
    chain.bank.open.set()
    assert (await chain.check_out(body))[0] == 422
    assert not chain.bank.orders


async def test_both_say_that_they_are_there(chain: Chain) -> None:
    for base in (chain.checkout, chain.payments):
        for path in ("live", "ready"):
            async with chain.session.get(f"{base}/health/{path}") as answer:
                assert answer.status == 200
