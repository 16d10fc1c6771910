"""Checkout when what stands behind it is slow, gone or killed, and when it is killed itself."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import asyncpg
import pytest

from services.checkout import failpoints
from tests.integration.checkout.stack import CheckoutStack
from tests.integration.payments.stack import Process, client, until

pytestmark = pytest.mark.integration


async def started(stack: CheckoutStack, **environment: str) -> Process:
    """All but the resolver; return checkout."""
    await stack.start("bank")
    await stack.start("api")
    return await stack.start("checkout", environment=environment)


async def test_a_silent_bank_is_a_202_within_the_budget_and_later_the_truth(stack: CheckoutStack) -> None:
    # Payments' commits get far more than they need, and their own timeout before the bank is not what ends the call.
    stack.extra |= {"PAYMENTS_COMMIT_SECONDS": "1.5", "PAYMENTS_BANK_TIMEOUT_SECONDS": "8"}
    checkout = await started(stack)
    await stack.behave("latency", mean_ms=6000, sigma=0)
    answer = await stack.check_out("slow", headers={"Request-Timeout-Ms": "2500"})
    assert (answer.status, answer.json["status"]) == (202, "processing")
    assert await stack.metric(checkout, 'checkout_checkouts_total{outcome="processing"}') == 1
    await stack.behave_well("latency")
    await stack.start("resolver")

    async def paid() -> bool:
        return bool((await stack.till("GET", answer.headers["Location"])).json["status"] == "paid")

    await until(paid, what="the payment")
    assert await stack.captures("slow") == 1


async def test_payments_that_hang_are_a_504_at_the_deadline_and_the_key_makes_it_good(stack: CheckoutStack) -> None:
    await stack.start("bank")
    api = await stack.start("api")
    checkout = await stack.start("checkout")
    api.popen.send_signal(19)
    begun = time.monotonic()
    answer = await stack.check_out("hung", headers={"Request-Timeout-Ms": "500"})
    took = time.monotonic() - begun
    assert (answer.status, answer.json["type"]) == (504, "urn:lab:deadline_exceeded")
    assert answer.headers["Retry-After"]
    assert took >= 0.4
    api.popen.send_signal(18)

    async def paid() -> bool:
        return (await stack.check_out("hung")).status == 201

    await until(paid, what="the same key")
    assert await stack.captures("hung") == 1
    assert await stack.metric(checkout, "http_server_active_requests") == 1.0  # this very question


async def test_payments_that_hang_open_the_breaker(stack: CheckoutStack) -> None:
    """The deadline of the request ends the call to payments; the breaker must hear of it all the same."""
    await stack.start("bank")
    api = await stack.start("api")
    checkout = await stack.start("checkout")
    api.popen.send_signal(19)
    soon = {"Request-Timeout-Ms": "2500"}  # all have to arrive before the breaker opens
    hung = await asyncio.gather(*(stack.check_out(f"hung-{number}", headers=soon) for number in range(30)))
    assert {answer.status for answer in hung} == {504}
    assert await stack.metric(checkout, "checkout_breaker_state") >= 1.0  # open; half-open a second later
    api.popen.send_signal(18)


@asynccontextmanager
async def hanging_database(stack: CheckoutStack) -> AsyncIterator[None]:
    """Every command of payments waits for a lock; what only reads goes on."""
    db = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        async with db.transaction():
            await db.execute("LOCK TABLE idempotency_keys IN EXCLUSIVE MODE")
            yield
    finally:
        await db.close()


async def test_payments_whose_database_hangs_open_the_breaker_too(stack: CheckoutStack) -> None:
    """They keep the deadline and say 504 in time, every time: that is no less a failure than saying nothing."""
    await stack.start("bank")
    await stack.start("api")
    checkout = await stack.start("checkout")
    # Once warm and with time to spare payments' own 504 comes before checkout has stopped waiting for it.
    assert (await stack.check_out("warm")).status == 201
    # Not all at one instant: so many answers at once would be late themselves. Below the 2 s after which payments say
    # that there was no connection to be had.
    soon = [{"Request-Timeout-Ms": str(1000 + 30 * number)} for number in range(30)]
    async with hanging_database(stack):
        hung = await asyncio.gather(*(stack.check_out(f"hung-{n}", headers=each) for n, each in enumerate(soon)))
        assert {answer.status for answer in hung} == {504}
        assert await stack.metric(checkout, "checkout_breaker_state") >= 1.0  # open; half-open a second later
        answered = 'http_client_request_duration_seconds_count{call="pay",client="payments",outcome="504"}'
        numbers = itertools.count()

        async def told_in_time() -> bool:
            await stack.check_out(f"late-{next(numbers)}", headers={"Request-Timeout-Ms": "1000"})
            return await stack.metric(checkout, answered) > 0

        await until(told_in_time, what="payments' own 504 in time")

    async def paid() -> bool:
        return (await stack.check_out("hung-0")).status == 201

    await until(paid, what="the same key")
    assert await stack.captures("hung-0") == 1


async def test_callers_in_too_much_of_a_hurry_do_not_open_it(stack: CheckoutStack) -> None:
    checkout = await started(stack)
    hurried = {"Request-Timeout-Ms": "150"}
    async with hanging_database(stack):
        # One after the other: in a crowd one may wait for the processor so long that the time it was given is called fair.
        answers = [await stack.check_out(f"h-{number}", headers=hurried) for number in range(30)]
    assert {answer.status for answer in answers} == {504}
    assert await stack.metric(checkout, "checkout_breaker_state") == 0.0


async def test_payments_that_are_gone_are_a_503_and_after_a_while_the_breaker_s(stack: CheckoutStack) -> None:
    await stack.start("bank")
    api = await stack.start("api")
    checkout = await stack.start("checkout")
    api.kill()
    for number in range(25):
        answer = await stack.check_out(f"gone-{number}")
        assert (answer.status, answer.json["type"]) == (503, "urn:lab:unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    assert await stack.metric(checkout, "checkout_breaker_state") >= 1.0  # open; half-open a second later
    await stack.start("api")

    async def paid() -> bool:
        return (await stack.check_out("back")).status == 201

    await until(paid, what="recovery")


async def test_payments_that_die_with_the_request_are_tried_again_by_the_till_and_charged_once(
    stack: CheckoutStack,
) -> None:
    await stack.start("bank")
    api = await stack.start("api", failpoints="payments.after_bank_answer=kill@1")
    await stack.start("checkout")
    answer = await stack.check_out("killed")
    assert answer.status == 503
    assert answer.json["type"] == "urn:lab:outcome_unknown"
    await until(lambda: stack.died(api), what="the death")
    await stack.start("api")

    async def paid() -> bool:
        return (await stack.check_out("killed")).status == 201

    await until(paid, what="the same key")
    assert await stack.captures("killed") == 1


@pytest.mark.parametrize("name", failpoints.ALL)
async def test_a_checkout_that_dies_loses_nothing(stack: CheckoutStack, name: str) -> None:
    await stack.start("bank")
    await stack.start("api")
    checkout = await stack.start("checkout", failpoints=f"{name}=kill@1")
    with suppress(aiohttp.ClientError):
        await stack.check_out("dies")
    await until(lambda: stack.died(checkout), what="the death")
    await stack.start("checkout")
    assert (await stack.check_out("dies")).status == 201
    assert await stack.captures("dies") == 1


async def test_more_than_it_can_hold_is_shed_at_once(stack: CheckoutStack) -> None:
    # Of the budget nothing may be wanting when payments, after the bank's 2 s, write that it is not decided.
    checkout = await started(stack, CHECKOUT_MAX_IN_FLIGHT="2", CHECKOUT_BUDGET_SECONDS="8")
    await stack.behave("latency", mean_ms=3000, sigma=0)
    held = [asyncio.create_task(stack.check_out(f"held-{number}")) for number in range(2)]

    async def full() -> bool:
        return await stack.metric(checkout, "http_server_active_requests") == 3.0

    await until(full, what="two requests under way")
    shed = await stack.check_out("shed")
    assert (shed.status, shed.json["type"], shed.headers["Retry-After"]) == (503, "urn:lab:overloaded", "1")
    assert [answer.status for answer in await asyncio.gather(*held)] == [202, 202]
    assert await stack.metric(checkout, "checkout_requests_shed_total") == 1


async def test_a_till_that_hangs_up_ends_the_work_for_it(stack: CheckoutStack) -> None:
    await stack.start("bank")
    api = await stack.start("api")
    checkout = await stack.start("checkout")
    api.popen.send_signal(19)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stack.check_out("left"), 1.0)

    async def abandoned() -> bool:
        return await stack.metric(checkout, 'checkout_requests_abandoned_total{reason="caller_left"}') == 1.0

    await until(abandoned, what="the cancellation")
    assert await stack.metric(checkout, 'checkout_wasted_work_seconds_total{reason="caller_left"}') > 0
    api.popen.send_signal(18)


async def test_sigterm_ends_it_with_0(stack: CheckoutStack) -> None:
    checkout = await stack.start("checkout")
    assert checkout.terminate() == 0


async def test_it_is_ready_whether_or_not_payments_is(stack: CheckoutStack) -> None:
    checkout = await stack.start("checkout")
    async with client() as session, session.get(f"{checkout.url}/health/ready") as answer:
        assert answer.status == 200
