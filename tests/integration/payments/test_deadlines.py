"""Deadlines and callers who leave: nothing is lost or done twice, and nobody waits for longer than he said."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import asyncpg
import pytest

from services.kit import deadline, postgres
from services.patterns.deadline import Deadline
from services.payments import handlers
from services.payments.handlers import Caller, Context, Reply
from services.payments.resolver import Resolver
from services.payments.schemas import CreatePayment
from tests.integration.payments.parts import parts
from tests.integration.payments.stack import Process, Stack, client, until

pytestmark = pytest.mark.integration

T = TypeVar("T")
SOON = {"Request-Timeout-Ms": "600"}
FINGERPRINT = b"f" * 32


class CancelledAt(Awaitable[T]):
    """Run `work`, and cancel the task that awaits it when `work` suspends for the nth time. `suspended`: how often it did."""

    def __init__(self, work: Awaitable[T], nth: int) -> None:
        self._work = work
        self._nth = nth
        self.suspended = 0

    def __await__(self) -> Generator[Any, Any, T]:
        inner = self._work.__await__()
        step: Callable[[Any], Any] = inner.send
        given: Any = None
        while True:
            try:
                future = step(given)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self.suspended += 1
            if self.suspended == self._nth:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                step, given = inner.send, (yield future)
            except asyncio.CancelledError as cancelled:
                step, given = inner.throw, cancelled


async def pay(context: Context, reference: str) -> Reply:
    wanted = CreatePayment(1000, "EUR", f"tok_{reference}", reference)
    return await handlers.create_payment(context, Caller("mer_demo", f"key-{reference}", FINGERPRINT), wanted)


async def decide_all(context: Context, resolver: Resolver, stack: Stack) -> None:
    """Work as the resolver does until no operation is undecided."""

    async def decided() -> bool:
        for claim in await context.store.claim_due(context.settings.lease_seconds, 100):
            await resolver.resolve(claim)
        undecided = await stack.sql("SELECT count(*) AS n FROM operations WHERE status IN ('pending', 'unknown')")
        return int(undecided[0]["n"]) == 0

    await until(decided, what="a decision of every operation")


async def unprotected(work: Coroutine[Any, Any, T], *, within: float) -> T:
    """`completed` as it is while a process is torn down: every await may be the last."""
    del within
    return await work


@pytest.mark.parametrize(("torn_down", "awaits"), [(False, 3), (True, 6)])
async def test_a_cancellation_at_any_await_neither_loses_nor_doubles_a_charge(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, torn_down: bool, awaits: int
) -> None:
    if torn_down:
        monkeypatch.setattr(deadline, "completed", unprotected)
    await stack.start("bank")
    references: list[str] = []
    ended: list[str] = []
    async with parts(stack, bank_timeout_seconds=1.0, lease_margin_seconds=0.2) as (context, resolver, _):
        await pay(context, "warm-up")
        nth = 0
        while not ended or ended[-1] == "cancelled":
            nth += 1
            references.append(f"cancelled-{nth}")
            work = CancelledAt(pay(context, references[-1]), nth)
            task: asyncio.Task[Reply] = asyncio.ensure_future(work)
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            ended.append("cancelled" if isinstance(outcome, asyncio.CancelledError) else "answered")
            assert nth < 100
        assert len(references) > awaits
        await decide_all(context, resolver, stack)
        for reference in references:
            reply = await pay(context, reference)
            assert reply.response.status in (201, 202), reference
        await decide_all(context, resolver, stack)
    rows = await stack.sql("SELECT reference, status FROM payments WHERE reference LIKE 'cancelled-%'")
    assert sorted(row["reference"] for row in rows) == sorted(references)
    assert {row["status"] for row in rows} == {"captured"}
    assert [await stack.captures(reference) for reference in references] == [1] * len(references)


async def test_a_caller_who_leaves_while_the_bank_is_called_finds_the_payment_made(stack: Stack) -> None:
    """The bank cannot be un-called, so its answer is waited for and kept: no resolver runs here."""
    await stack.start("bank")
    api = await stack.start("api")
    await stack.behave("latency", mean_ms=1000, sigma=0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stack.pay("left"), 0.4)

    async def paid() -> bool:
        return (await stack.pay("left")).status == 201

    await until(paid, what="the payment")
    assert await stack.captures("left") == 1
    assert await sample(api, 'payments_requests_abandoned_total{reason="caller_left"}') == 1
    assert await sample(api, 'payments_wasted_work_seconds_total{reason="caller_left"}') > 0.3


async def test_a_caller_who_leaves_before_anything_is_written_leaves_nothing(stack: Stack) -> None:
    await stack.start("bank")
    api = await stack.start("api")
    await stack.pay("warm-up")
    await stack.arm(api, "payments.before_insert", "delay", seconds=30)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stack.pay("early"), 2.0)

    async def abandoned() -> bool:
        return await sample(api, 'payments_requests_abandoned_total{reason="caller_left"}') == 1

    await until(abandoned, within=10, what="the cancellation")
    assert await stack.sql("SELECT 1 FROM payments WHERE reference = 'early'") == []


async def test_a_slow_bank_is_waited_for_only_as_long_as_the_caller_waits(stack: Stack) -> None:
    # The commits before and behind the call get far more than they need, and the bank's own timeout is not what ends it.
    stack.extra |= {"PAYMENTS_COMMIT_SECONDS": "1.5", "PAYMENTS_BANK_TIMEOUT_SECONDS": "20"}
    await stack.start("bank")
    await stack.start("api")
    await stack.behave("latency", mean_ms=6000, sigma=0)
    answer = await stack.request(
        "POST",
        "/v1/payments",
        json={"amount": 1, "currency": "EUR", "source": "tok_x", "reference": "short"},
        key="short",
        headers={"Request-Timeout-Ms": "2500"},
    )
    assert (answer.status, answer.json["status"]) == (202, "processing")
    assert (await stack.sql("SELECT status FROM operations"))[0]["status"] == "unknown"


@pytest.mark.parametrize("milliseconds", [100, 268])
async def test_what_would_leave_the_bank_no_time_is_not_begun(stack: Stack, milliseconds: int) -> None:
    await stack.start("bank")
    await stack.start("api")
    answer = await stack.request(
        "POST",
        "/v1/payments",
        json={"amount": 1, "currency": "EUR", "source": "tok_x", "reference": "tiny"},
        key="tiny",
        headers={"Request-Timeout-Ms": str(milliseconds)},
    )
    assert (answer.status, answer.json["type"]) == (504, "urn:lab:deadline_exceeded")
    assert await stack.sql("SELECT 1 FROM idempotency_keys") == []


async def waiting(stack: Stack, name: str) -> int:
    rows = await stack.sql(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = $1 AND state = 'active'", name
    )
    return int(rows[0]["n"])


async def test_a_statement_that_waits_is_ended_at_the_deadline_on_the_server_too(stack: Stack) -> None:
    await stack.start("bank")
    await stack.start("api")
    assert (await stack.pay("warm-up")).status == 201
    db = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        async with db.transaction():
            await db.execute("LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE")
            answer = await stack.request(
                "POST",
                "/v1/payments",
                json={"amount": 1, "currency": "EUR", "source": "tok_x", "reference": "locked"},
                key="locked",
                headers=SOON,
            )
            assert (answer.status, answer.json["type"]) == (504, "urn:lab:deadline_exceeded")
            assert answer.headers["Retry-After"]

            async def ended() -> bool:
                return await waiting(stack, "payments-api") == 0

            await until(ended, within=5, what="the end of the statement")
    finally:
        await db.close()
    assert await stack.sql("SELECT 1 FROM payments WHERE reference = 'locked'") == []
    assert (await stack.pay("after")).status == 201


@pytest.mark.parametrize("path", ["", "/capture"])
async def test_a_write_whose_connection_was_lost_may_have_been_made(stack: Stack, path: str) -> None:
    """*Nothing was done* would be a lie if the commit had come through: the resolver would charge the card."""
    await stack.start("bank")
    await stack.start("api")
    made = await stack.pay("first", capture="manual")
    url = f"/v1/payments/{made.json['id']}{path}" if path else "/v1/payments"
    order = {"amount": 1, "currency": "EUR", "source": "tok_x", "reference": "lost"}
    db = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        async with db.transaction():
            await db.execute("LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE")
            asked = asyncio.create_task(stack.request("POST", url, json={} if path else order, key="lost"))

            async def begun() -> bool:
                return await waiting(stack, "payments-api") == 1

            await until(begun, what="the statement under way")
            await db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'payments-api'"
            )
            answer = await asked
    finally:
        await db.close()
    assert (answer.status, answer.json["type"]) == (503, "urn:lab:outcome_unknown")


async def test_a_borrowed_connection_ends_its_statement_at_the_deadline_and_goes_back_sound(stack: Stack) -> None:
    async with await postgres.create_pool(stack.app_url, name="borrower", minimum=1, maximum=1) as pool:
        begun = time.monotonic()
        with deadline.bound(Deadline.after(0.2)), pytest.raises(deadline.DeadlineOver):
            async with postgres.borrowed(pool, wait_seconds=5) as db:
                await db.execute("SELECT pg_sleep(30)")
        assert time.monotonic() - begun < 5

        async def ended() -> bool:
            return await waiting(stack, "borrower") == 0

        await until(ended, within=20, what="the end of the statement")  # of 30 s
        async with postgres.borrowed(pool, wait_seconds=5) as db:
            assert await db.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("transaction", [False, True])
async def test_a_database_that_does_not_even_cancel_holds_nobody_past_the_deadline(
    stack: Stack, transaction: bool
) -> None:
    """asyncpg waits for the end of what it has cancelled, to give the connection back whole or to roll back."""
    async with await postgres.create_pool(stack.app_url, name="borrower", minimum=1, maximum=1) as pool:
        async with pool.acquire() as db:
            frozen = await db.fetchval("SELECT pg_backend_pid()")
        os.kill(frozen, signal.SIGSTOP)

        async def ask() -> None:
            async with postgres.borrowed(pool, wait_seconds=60) as db, AsyncExitStack() as more:
                if transaction:
                    await more.enter_async_context(db.transaction())
                await db.execute("SELECT 1")

        begun = time.monotonic()
        try:
            with deadline.bound(Deadline.after(0.2)), pytest.raises(deadline.DeadlineOver):
                await ask()
            assert time.monotonic() - begun < 5  # asyncpg's own patience is the pool's command_timeout, 6 s
        finally:
            os.kill(frozen, signal.SIGCONT)
        async with postgres.borrowed(pool, wait_seconds=5) as db:
            assert await db.fetchval("SELECT 1") == 1


async def test_the_wait_for_a_connection_ends_at_the_deadline(stack: Stack) -> None:
    async with await postgres.create_pool(stack.app_url, name="borrower", minimum=1, maximum=1) as pool, pool.acquire():
        with deadline.bound(Deadline.after(0.1)), pytest.raises(deadline.DeadlineOver):
            async with postgres.borrowed(pool, wait_seconds=60):
                pass
        with pytest.raises(TimeoutError):
            async with postgres.borrowed(pool, wait_seconds=0.1):
                pass


async def sample(process: Process, line: str) -> float:
    async with client() as session, session.get(f"{process.url}/metrics") as answer:
        for found in (await answer.text()).splitlines():
            if found.startswith(line + " "):
                return float(found.split()[-1])
    return 0.0


@pytest.mark.parametrize(("timeout", "status"), [("soon", 400), ("0", 504), ("-5", 504), ("9" * 300, 201)])
async def test_a_strange_deadline_has_its_documented_answer(stack: Stack, timeout: str, status: int) -> None:
    await stack.start("bank")
    await stack.start("api")
    answer = await stack.request(
        "POST",
        "/v1/payments",
        json={"amount": 1, "currency": "EUR", "source": "tok_x", "reference": "strange"},
        key="strange",
        headers={"Request-Timeout-Ms": timeout},
    )
    assert answer.status == status
