"""What the till is told for each answer of payments, and for none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiohttp import web

from services.checkout.domain import CheckoutStatus
from services.checkout.payments import Payments
from services.checkout.schemas import CreateCheckout
from services.checkout.settings import CheckoutSettings
from services.kit import ids
from services.kit.deadline import bound
from services.kit.errors import Problem
from services.patterns.deadline import Deadline

PAYMENT = ids.uuid7()
PAYMENT_ID = ids.encode("pay", PAYMENT)
CHECKOUT_ID = ids.encode("chk", PAYMENT)
BODY = {"id": PAYMENT_ID, "status": "captured", "amount": 1000, "currency": "EUR", "reference": "r", "exponent": 2}
WANTED = CreateCheckout(1000, "EUR", "tok_x", "r")
CALLER = {"Authorization": "Bearer key", "Idempotency-Key": "k"}


@dataclass
class FakePayments:
    """Gives these answers in turn, the last one for ever."""

    answers: list[tuple[int, Any, dict[str, str]]]
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    slow: asyncio.Event | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        if self.slow is not None and len(self.requests) == 1:
            await self.slow.wait()
        status, body, headers = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if isinstance(body, bytes):
            return web.Response(status=status, body=body, headers=headers)
        return web.json_response(body, status=status, headers=headers)


@asynccontextmanager
async def talking_to(fake: FakePayments, **settings: Any) -> AsyncIterator[Payments]:
    runner = web.ServerRunner(web.Server(fake.answer), shutdown_timeout=0.1)  # type: ignore[arg-type]  # any handler will do
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with Payments(CheckoutSettings(payments_url=url, **settings)) as payments:
            with bound(Deadline.after(2.0)):
                yield payments
    finally:
        await runner.cleanup()


def problem(code: str, **more: Any) -> dict[str, Any]:
    return {"type": f"urn:lab:{code}", "title": "-", "status": 0, **more}


async def test_the_caller_s_own_key_and_authorisation_go_on_and_nothing_else() -> None:
    fake = FakePayments([(201, BODY, {})])
    async with talking_to(fake) as payments:
        await payments.pay(CALLER, WANTED)
    sent = fake.requests[0].headers
    assert (sent["Authorization"], sent["Idempotency-Key"]) == ("Bearer key", "k")
    assert fake.bodies == [b'{"amount":1000,"currency":"EUR","source":"tok_x","reference":"r"}']
    assert 0 < int(sent["Request-Timeout-Ms"]) < 2000


async def test_what_is_bought_goes_on_as_metadata_of_the_payment() -> None:
    fake = FakePayments([(201, BODY, {})])
    async with talking_to(fake) as payments:
        await payments.pay(CALLER, CreateCheckout(1000, "EUR", "tok_x", "r", sku="LAMP-1", quantity=2))
    assert msgspec.json.decode(fake.bodies[0])["metadata"] == {"sku": "LAMP-1", "quantity": "2"}


@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        (201, "captured", CheckoutStatus.PAID),
        (202, "processing", CheckoutStatus.PROCESSING),
        (202, "captured", CheckoutStatus.PROCESSING),
    ],
)
async def test_a_success_is_a_checkout_with_the_payment_s_id(status: int, state: str, expected: CheckoutStatus) -> None:
    async with talking_to(FakePayments([(status, BODY | {"status": state}, {})])) as payments:
        paid = await payments.pay(CALLER, WANTED)
    assert (paid.checkout.id, paid.checkout.status, paid.replayed) == (PAYMENT, expected, False)


async def test_a_replay_is_seen_as_one() -> None:
    async with talking_to(FakePayments([(201, BODY, {"Idempotent-Replayed": "true"})])) as payments:
        assert (await payments.pay(CALLER, WANTED)).replayed


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, problem("unauthorised"), (401, "unauthorised")),
        (402, problem("card_declined", payment=PAYMENT_ID, decline_code="stolen"), (402, "card_declined")),
        (409, problem("request_in_flight"), (409, "request_in_flight")),
        (409, problem("reference_in_use", payment=PAYMENT_ID), (409, "reference_in_use")),
        (422, problem("idempotency_key_reused"), (422, "idempotency_key_reused")),
        (422, problem("unknown_currency"), (422, "unknown_currency")),
        (422, problem("card_number_refused"), (422, "card_number_refused")),
        (503, problem("overloaded"), (503, "unavailable")),
        (503, problem("bank_unavailable"), (503, "unavailable")),
        (503, problem("outcome_unknown"), (503, "outcome_unknown")),
        (503, problem("unavailable"), (503, "unavailable")),
        (504, problem("deadline_exceeded"), (504, "deadline_exceeded")),
        # What we do not know may have been done.
        (200, BODY, (503, "outcome_unknown")),
        (201, b"garbage", (503, "outcome_unknown")),
        (201, BODY | {"id": "chk_1"}, (503, "outcome_unknown")),
        (201, BODY | {"status": "sideways"}, (503, "outcome_unknown")),
        (201, b"\xff", (503, "outcome_unknown")),
        (301, b"", (503, "outcome_unknown")),
        (402, problem("card_declined"), (503, "outcome_unknown")),
        (404, b"a proxy's page", (503, "outcome_unknown")),
        (409, problem("something_new"), (503, "outcome_unknown")),
        (422, problem("something_new"), (503, "outcome_unknown")),
        (500, problem("internal_error"), (503, "outcome_unknown")),
        (502, b"<html>", (503, "outcome_unknown")),
        (503, b"<html>", (503, "outcome_unknown")),
        (503, problem("something_new"), (503, "outcome_unknown")),
    ],
)
async def test_each_refusal_has_one_meaning(status: int, body: Any, expected: tuple[int, str]) -> None:
    headers = {"Retry-After": "30"} if status in (502, 503, 504) else {}
    async with talking_to(FakePayments([(status, body, headers)])) as payments:
        with pytest.raises(Problem) as raised:
            await payments.pay(CALLER, WANTED)
    assert (raised.value.status, raised.value.code) == expected
    if expected[0] in (503, 504, 409) and expected[1] != "reference_in_use":
        assert int(raised.value.headers["Retry-After"]) >= 1


async def test_a_declined_card_names_the_checkout_and_the_bank_s_code() -> None:
    body = problem("card_declined", payment=PAYMENT_ID, decline_code="stolen_card")
    async with talking_to(FakePayments([(402, body, {})])) as payments:
        with pytest.raises(Problem) as raised:
            await payments.pay(CALLER, WANTED)
    assert raised.value.extra == {"decline_code": "stolen_card", "checkout": CHECKOUT_ID}


async def test_nothing_was_done_is_said_only_if_no_earlier_attempt_may_have_arrived() -> None:
    fake = FakePayments([(0, None, {}), (503, problem("overloaded"), {"Retry-After": "30"})])
    async with talking_to(fake) as payments:
        with pytest.raises(Problem) as raised:
            await payments.pay(CALLER, WANTED)
    assert (len(fake.requests), raised.value.code) == (2, "outcome_unknown")


async def test_a_lost_connection_is_tried_again_under_the_same_key() -> None:
    fake = FakePayments([(0, None, {}), (201, BODY, {})])
    async with talking_to(fake) as payments:
        assert (await payments.pay(CALLER, WANTED)).checkout.status is CheckoutStatus.PAID
    assert [request.headers["Idempotency-Key"] for request in fake.requests] == ["k", "k"]


@pytest.mark.slow
async def test_when_nothing_works_the_till_adds_a_tenth_and_no_more() -> None:
    fake = FakePayments([(503, problem("unavailable"), {"Retry-After": "0"})])
    async with talking_to(fake) as payments:
        for _ in range(200):
            with pytest.raises(Problem):
                await payments.pay(CALLER, WANTED)
    assert 200 < len(fake.requests) <= 200 + 20 + 5 + 2


async def test_silence_is_a_504_at_the_deadline() -> None:
    fake = FakePayments([(201, BODY, {})], slow=asyncio.Event())
    async with talking_to(fake) as payments:
        with bound(Deadline.after(0.1)), pytest.raises(Problem) as raised:
            await payments.pay(CALLER, WANTED)
    assert raised.value.code == "deadline_exceeded"


async def test_a_read_that_takes_long_is_hedged_once_the_budget_allows_it() -> None:
    fake = FakePayments([(200, BODY, {})])
    async with talking_to(fake) as payments:
        for _ in range(40):
            await payments.find(CALLER, PAYMENT)
        fake.requests.clear()
        fake.slow = asyncio.Event()
        found = await payments.find(CALLER, PAYMENT)
    assert found.status is CheckoutStatus.PAID
    assert len(fake.requests) == 2
    assert fake.requests[0].path == f"/v1/payments/{PAYMENT_ID}"


async def test_a_payment_is_never_hedged() -> None:
    fake = FakePayments([(200, BODY, {})])
    async with talking_to(fake) as payments:
        for _ in range(40):
            await payments.find(CALLER, PAYMENT)
        fake.requests.clear()
        fake.slow = asyncio.Event()
        with bound(Deadline.after(0.3)), pytest.raises(Problem):
            await payments.pay(CALLER, WANTED)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"payments_url": "ftp://x"},
        {"payments_url": "http://x/path"},
        {"budget_seconds": 0},
        {"budget_seconds": 20},
        {"attempts": 0},
        {"retry_share": 2},
        {"max_in_flight": 0},
    ],
)
def test_a_wrong_setting_stops_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="CheckoutSettings"):
        CheckoutSettings(**({"payments_url": "http://127.0.0.1:1"} | wrong))
