"""A breaker that lets a few probes through: whoever is refused has written nothing, and no probe is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from services.kit import ids
from services.patterns.breaker import Breaker, State
from services.payments import handlers, problems
from services.payments.bank import BREAKER
from services.payments.domain import OperationKind
from services.payments.handlers import Caller, Context, Reply
from services.payments.schemas import CreatePayment
from services.payments.store import PaymentStore, StoreUnavailable
from tests.integration.payments.fake_bank import FakeBank
from tests.integration.payments.parts import parts
from tests.integration.payments.stack import Stack, until
from tests.integration.payments.test_deadlines import CancelledAt

pytestmark = pytest.mark.integration

BURST = 20
FINGERPRINT = b"f" * 32


@dataclass(frozen=True, slots=True)
class Lab:
    """Payments inside the test before a bank that it holds."""

    context: Context
    bank: FakeBank

    @property
    def breaker(self) -> Breaker:
        return self.context.bank.breakers["0"]

    async def half_open(self) -> None:
        """As it is a while after the bank has failed."""
        while self.breaker.state is not State.OPEN:
            permit = self.breaker.acquire()
            assert permit is not None
            self.breaker.release(permit, False)

        async def is_half_open() -> bool:
            return self.breaker.state is State.HALF_OPEN

        await until(is_half_open, what="the half-open breaker")

    async def pay(self, reference: str, *, automatic: bool = True) -> Reply:
        wanted = CreatePayment(
            1000, "EUR", f"tok_{reference}", reference, capture="automatic" if automatic else "manual"
        )
        return await handlers.create_payment(self.context, Caller("mer_demo", f"key-{reference}", FINGERPRINT), wanted)

    def free_probes(self) -> int:
        """How many permits can be had; they are given back."""
        taken = [permit for _ in range(BREAKER.probes + 1) if (permit := self.breaker.acquire()) is not None]
        for permit in taken:
            self.breaker.release(permit, None)
        return len(taken)


@asynccontextmanager
async def lab(stack: Stack) -> AsyncIterator[Lab]:
    bank = FakeBank()
    # The test holds the probes, for as long as it takes the others to be refused.
    rule = replace(BREAKER, slow_seconds=None)
    async with bank.serve(stack.ports["bank"]), parts(stack, rule=rule) as (context, _, _):
        yield Lab(context, bank)


async def burst(made: Lab, commands: list[Coroutine[Any, Any, Reply]]) -> list[Reply | BaseException]:
    """All at once against a bank that answers only when all others have been decided."""
    made.bank.open.clear()
    before = len(made.bank.calls)
    running = [asyncio.ensure_future(command) for command in commands]

    async def only_probes_left() -> bool:
        left = sum(not each.done() for each in running)
        return left == BREAKER.probes and len(made.bank.calls) - before == BREAKER.probes

    await until(only_probes_left, what="everybody but the probes refused")
    made.bank.open.set()
    return await asyncio.gather(*running, return_exceptions=True)


async def test_of_a_burst_only_the_probes_are_written_and_the_others_are_refused_for_certain(stack: Stack) -> None:
    async with lab(stack) as made:
        await made.half_open()
        ended = await burst(made, [made.pay(f"r{number}") for number in range(BURST)])
        assert sum(isinstance(each, problems.BankAway) for each in ended) == BURST - BREAKER.probes
        assert [each.response.status for each in ended if isinstance(each, Reply)] == [201] * BREAKER.probes
        for table in ("payments", "operations", "idempotency_keys"):
            assert len(await stack.sql(f"SELECT 1 FROM {table}")) == BREAKER.probes
        assert made.breaker.state is State.CLOSED


async def test_of_a_burst_of_captures_too(stack: Stack) -> None:
    async with lab(stack) as made:
        made.bank.tells = {"status": "authorised"}
        replies = [await made.pay(f"r{number}", automatic=False) for number in range(BURST)]
        found = [ids.decode("pay", msgspec.json.decode(each.response.body)["id"]) for each in replies]
        made.bank.tells = {"status": "succeeded"}
        await made.half_open()

        def capture(payment: UUID) -> Coroutine[Any, Any, Reply]:
            caller = Caller("mer_demo", f"capture-{payment}", FINGERPRINT)
            return handlers.operate(made.context, caller, OperationKind.CAPTURE, payment, None)

        ended = await burst(made, [capture(payment) for payment in found if payment is not None])
        assert sum(isinstance(each, problems.BankAway) for each in ended) == BURST - BREAKER.probes
        assert len(await stack.sql("SELECT 1 FROM operations WHERE kind = 'capture'")) == BREAKER.probes
        assert len(await stack.sql("SELECT 1 FROM payments WHERE status = 'captured'")) == BREAKER.probes


class Unwritable:
    """A store that cannot write what a command begins with."""

    async def begin_payment(self, *_: object) -> bool:
        raise StoreUnavailable("away")


async def test_a_command_that_could_not_be_written_gives_its_probe_back(stack: Stack) -> None:
    async with lab(stack) as made:
        await made.half_open()
        failing = Lab(replace(made.context, store=cast("PaymentStore", Unwritable())), made.bank)
        for number in range(2 * BREAKER.probes):
            with pytest.raises(StoreUnavailable):
                await failing.pay(f"r{number}")
        assert made.free_probes() == BREAKER.probes
        assert made.bank.calls == []


async def test_what_is_refused_replayed_or_another_s_gives_its_probe_back(stack: Stack) -> None:
    async with lab(stack) as made:
        first = await made.pay("first")
        await made.half_open()
        assert (await made.pay("first")).response == first.response
        caller = Caller("mer_demo", "key-other", FINGERPRINT)
        with pytest.raises(problems.ReferenceInUse):
            await handlers.create_payment(made.context, caller, CreatePayment(1000, "EUR", "tok_first", "first"))
        payment = ids.decode("pay", first.payment_id)
        assert payment is not None
        with pytest.raises(problems.NotPossible):
            await handlers.operate(made.context, caller, OperationKind.CAPTURE, payment, None)
        assert made.free_probes() == BREAKER.probes


async def test_a_caller_who_leaves_at_any_moment_takes_no_probe_along(stack: Stack) -> None:
    async with lab(stack) as made:
        await made.pay("warm-up")
        answered, nth = False, 0
        while not answered:
            nth += 1
            await made.half_open()
            task: asyncio.Task[Reply] = asyncio.ensure_future(CancelledAt(made.pay(f"leaves-{nth}"), nth))
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            answered = isinstance(ended, Reply)
            assert made.free_probes() == BREAKER.probes
            assert nth < 50
        assert nth > 2
