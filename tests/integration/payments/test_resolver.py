"""Unknown outcomes become certain, whatever the bank does meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast
from uuid import UUID

import msgspec
import pytest

from services.kit import ids
from services.payments import handlers, problems
from services.payments.bank import Bank, Place
from services.payments.domain import Operation, Outcome, Payment
from services.payments.handlers import RESEND, Caller
from services.payments.schemas import CreatePayment
from services.payments.store import Pauses
from tests.integration.payments.fake_bank import FakeBank
from tests.integration.payments.parts import attempt, begun, parts
from tests.integration.payments.stack import WEBHOOK_SECRET, Stack, until

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Overtaken:
    """The bank, and what happens between its answer and our commit."""

    bank: Bank
    meanwhile: Callable[[], Awaitable[None]]

    def place(self) -> Place:
        return self.bank.place()

    async def execute(self, payment: Payment, operation: Operation, place: Place | None = None) -> Outcome:
        outcome = await self.bank.execute(payment, operation, place)
        await self.meanwhile()
        return outcome


def reference_of(reply: handlers.Reply) -> str:
    return str(msgspec.json.decode(reply.response.body)["reference"])


async def status(stack: Stack, payment: Payment) -> str:
    return str((await stack.sql("SELECT status FROM payments WHERE id = $1", payment.id))[0]["status"])


async def test_a_charge_that_arrives_after_two_not_found_is_the_only_one(stack: Stack) -> None:
    bank = FakeBank(gets_through=lambda call, nth: not (call == "send" and nth <= 2))
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, resolver, _):
        payment, operation = await begun(context, "late")

        assert not await attempt(context, resolver)
        assert not await attempt(context, resolver)
        assert bank.calls == ["ask", "send", "ask", "send"]
        assert await status(stack, payment) == "processing"

        bank.execute(operation.bank_reference)  # the first call, long on its way, gets there now
        assert await attempt(context, resolver)

    assert await status(stack, payment) == "captured"
    assert len(bank.charged) == 1


async def test_a_sending_without_an_answer_is_not_repeated_while_the_bank_may_still_be_at_it(stack: Stack) -> None:
    """Seen before this rule: each pass sent again what was waiting in the bank's own queue, 2.3 times an operation."""
    bank = FakeBank()
    bank.open.clear()
    async with bank.serve(stack.ports["bank"]), parts(stack, bank_timeout_seconds=0.2) as (context, resolver, _):
        payment, operation = await begun(context, "queued")
        for _ in range(4):
            assert not await attempt(context, resolver)
        assert bank.calls == ["ask", "send", "ask", "ask", "ask"]

        bank.open.set()
        bank.execute(operation.bank_reference)
        assert await attempt(context, resolver)
    assert await status(stack, payment) == "captured"
    assert bank.calls.count("send") == 1


async def test_a_sending_that_was_lost_is_repeated_after_its_pause_which_grows_and_is_bounded(stack: Stack) -> None:
    bank = FakeBank(gets_through=lambda call, nth: call != "send", breaks=True)
    pauses = []
    async with bank.serve(stack.ports["bank"]), parts(stack, bank_timeout_seconds=0.2) as (context, resolver, _):
        payment, _ = await begun(context, "lost")
        for sendings in range(1, 5):
            assert not await attempt(context, resolver)
            (row,) = await stack.sql(
                "SELECT unanswered, extract(epoch FROM send_again_at - now())::float8 AS pause FROM operations"
            )
            assert (row["unanswered"], bank.calls.count("send")) == (sendings, sendings)
            pauses.append(row["pause"])
            await stack.sql("UPDATE operations SET send_again_at = now()")
        bank.gets_through = lambda call, nth: True
        assert await attempt(context, resolver)
    assert await status(stack, payment) == "captured"
    first, most = RESEND.base, RESEND.cap
    assert first / 2 - 0.5 < pauses[0] < first + 0.3
    assert all(most / 2 - 0.5 < pause < most + 0.3 for pause in pauses[1:])


async def test_what_surely_never_arrived_is_sent_again_at_once(stack: Stack) -> None:
    async with parts(stack) as (context, resolver, _):
        payment, _ = await begun(context, "refused")
        assert not await attempt(context, resolver)
        bank = FakeBank()
        async with bank.serve(stack.ports["bank"]):
            assert await attempt(context, resolver)
    assert await status(stack, payment) == "captured"
    assert bank.calls == ["ask", "send"]


async def test_a_client_that_comes_back_does_not_have_it_sent_again_either(stack: Stack) -> None:
    bank = FakeBank()
    bank.open.clear()
    caller, wanted = Caller("mer_demo", "key-queued", b"f" * 32), CreatePayment(1000, "EUR", "tok_queued", "queued")
    async with bank.serve(stack.ports["bank"]), parts(stack, bank_timeout_seconds=0.2) as (context, resolver, _):
        await begun(context, "queued")
        assert not await attempt(context, resolver)

        async def taken_over() -> bool:
            try:
                return (await handlers.create_payment(context, caller, wanted)).response.status == 202
            except problems.KeyInFlight:
                return False

        await until(taken_over, what="the answer to the client")
        bank.open.set()
    assert bank.calls == ["ask", "send", "ask"]


async def test_a_charge_that_arrives_between_not_found_and_the_second_sending_is_the_only_one(stack: Stack) -> None:
    bank = FakeBank()
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, resolver, _):
        payment, operation = await begun(context, "between")

        def arrives_before_the_send(call: str, nth: int) -> bool:
            if call == "send":
                bank.execute(operation.bank_reference)
            return True

        bank.gets_through = arrives_before_the_send
        assert await attempt(context, resolver)

    assert bank.calls == ["ask", "send"]
    assert await status(stack, payment) == "captured"
    assert len(bank.charged) == 1


async def test_an_old_authorisation_is_cancelled_at_the_bank_and_a_late_arrival_charges_nothing(stack: Stack) -> None:
    bank = FakeBank(gets_through=lambda call, nth: not (call == "cancel" and nth == 1))
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, resolver, clock):
        payment, operation = await begun(context, "old")
        clock.ahead = timedelta(seconds=context.settings.cancel_after_seconds + 1)

        assert not await attempt(context, resolver)
        assert await status(stack, payment) == "processing"
        assert await attempt(context, resolver)

        assert bank.execute(operation.bank_reference)[0] == 409

    assert bank.calls == ["ask", "cancel", "ask", "cancel"]
    assert await status(stack, payment) == "failed"
    assert bank.charged == {}


async def test_an_old_authorisation_that_was_executed_after_all_is_captured(stack: Stack) -> None:
    bank = FakeBank(gets_through=lambda call, nth: True)
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, resolver, clock):
        payment, operation = await begun(context, "executed")
        clock.ahead = timedelta(days=1)

        def arrives_before_the_cancel(call: str, nth: int) -> bool:
            if call == "cancel":
                bank.execute(operation.bank_reference)
            return True

        bank.gets_through = arrives_before_the_cancel
        assert await attempt(context, resolver)

    assert await status(stack, payment) == "captured"


async def test_two_resolvers_at_once_decide_an_operation_once(stack: Stack) -> None:
    bank = FakeBank()
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, resolver, _):
        payment, _ = await begun(context, "twice")
        (claim,) = await context.store.claim_due(0, 10)
        (again,) = await context.store.claim_due(5, 10)
        await asyncio.gather(resolver.resolve(claim), resolver.resolve(again))
    assert await status(stack, payment) == "captured"
    assert len(await stack.sql("SELECT 1 FROM outbox")) == 1
    assert len(await stack.sql("SELECT 1 FROM ledger_transactions")) == 1


async def test_a_claim_belongs_to_one_resolver_until_its_lease_ends(stack: Stack) -> None:
    async with parts(stack) as (context, _, _):
        for number in range(20):
            await begun(context, f"r{number}")
        first, second = await asyncio.gather(context.store.claim_due(30, 12), context.store.claim_due(30, 12))
        claimed = [claim.operation.id for claim in (*first, *second)]
        assert len(claimed) == len(set(claimed))
        rest = await context.store.claim_due(30, 100)
        assert len(claimed) + len(rest) == 20
        assert await context.store.claim_due(30, 100) == []


async def test_the_next_request_goes_on_where_a_dead_one_stopped(stack: Stack) -> None:
    bank = FakeBank()
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, _, _):
        payment, _ = await begun(context, "dead")
        caller = Caller("mer_demo", "key-dead", b"f" * 32)
        wanted = CreatePayment(1000, "EUR", "tok_dead", "dead")
        reply = await handlers.create_payment(context, caller, wanted)
    assert reply.response.status == 201
    assert msgspec.json.decode(reply.response.body)["id"] == ids.encode("pay", payment.id)
    assert len(bank.charged) == 1


async def test_a_signed_event_makes_the_resolver_ask_at_once_and_a_repeated_one_does_not(stack: Stack) -> None:
    await stack.start("api")
    async with parts(stack) as (context, _, _):
        _, operation = await begun(context, "hint")
        (claim,) = await context.store.claim_due(5, 1)
        event = msgspec.json.encode(
            {"id": "evt_1", "type": "operation.completed", "reference": operation.bank_reference}
        )

        async def deliver() -> int:
            stamp = str(int(time.time()))
            digest = hmac.new(WEBHOOK_SECRET.encode(), f"{stamp}.".encode() + event, hashlib.sha256).hexdigest()
            headers = {"Content-Type": "application/json", "Bank-Signature": f"t={stamp},v1={digest}"}
            return (await stack.request("POST", "/v1/bank-events", data=event, headers=headers, merchant={})).status

        await context.store.park(claim, context.clock.now(), Pauses(3600), None)
        assert await context.store.claim_due(5, 1) == []
        assert await deliver() == 204
        (claim,) = await context.store.claim_due(5, 1)
        await context.store.park(claim, context.clock.now(), Pauses(3600), None)
        assert await deliver() == 204
        assert await context.store.claim_due(5, 1) == []


async def test_expired_authorisations_are_voided_and_old_keys_forgotten(stack: Stack) -> None:
    await stack.start("bank")
    await stack.start("api")
    made = await stack.pay("sleepy", capture="manual")
    async with parts(stack) as (context, resolver, clock):
        await resolver.sweep()
        assert await context.store.claim_due(5, 10) == []
        clock.ahead = timedelta(days=8)
        await resolver.sweep()
        await resolver.sweep()
        assert not await stack.sql("SELECT 1 FROM idempotency_keys")
        assert await attempt(context, resolver)
        await resolver.sweep()
        assert await context.store.claim_due(5, 10) == []
    payment_id = ids.decode("pay", made.json["id"])
    assert isinstance(payment_id, UUID)
    (row,) = await stack.sql("SELECT status FROM payments WHERE id = $1", payment_id)
    assert row["status"] == "expired"
    (charge,) = await stack.sql("SELECT status FROM charges", database="bank")
    assert charge["status"] == "voided"


async def test_a_sweep_forgets_everything_that_has_expired_however_much_it_is(stack: Stack) -> None:
    await stack.sql(
        """INSERT INTO idempotency_keys (merchant_id, key, fingerprint, payment_id, operation_id, created_at, expires_at)
           SELECT 'mer_demo', 'k' || n, 'f', gen_random_uuid(), gen_random_uuid(), now(), now() - interval '1 hour'
           FROM generate_series(1, 2500) n"""
    )
    await stack.sql(
        "INSERT INTO bank_events (id, received_at) SELECT 'evt_' || n, now() - interval '2 days' FROM generate_series(1, 2500) n"
    )
    async with parts(stack) as (_, resolver, _):
        await resolver.sweep()
    assert not await stack.sql("SELECT 1 FROM idempotency_keys")
    assert not await stack.sql("SELECT 1 FROM bank_events")


async def test_an_authorisation_whose_time_is_over_is_not_captured_even_before_the_sweep(stack: Stack) -> None:
    await stack.start("bank")
    await stack.start("api")
    made = await stack.pay("late", capture="manual")
    where = f"/v1/payments/{made.json['id']}"
    await stack.sql("UPDATE payments SET expires_at = now() - interval '1 second'")
    answer = await stack.request("POST", f"{where}/capture", key="capture")
    assert (answer.status, answer.json["type"]) == (409, "urn:lab:illegal_state")
    assert (await stack.request("POST", f"{where}/void", key="void")).status == 200


async def test_a_key_that_another_request_took_over_after_its_expiry_does_not_give_that_ones_answer(
    stack: Stack,
) -> None:
    bank = FakeBank()
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, _, clock):
        caller = Caller("mer_demo", "shared", b"f" * 32)

        def wanted(reference: str) -> CreatePayment:
            return CreatePayment(1000, "EUR", f"tok_{reference}", reference)

        seconds: list[handlers.Reply] = []

        async def reuse_the_key() -> None:
            clock.ahead = timedelta(hours=context.settings.key_lifetime_hours + 1)
            seconds.append(await handlers.create_payment(context, caller, wanted("second")))

        slow = replace(context, bank=cast("Bank", Overtaken(context.bank, reuse_the_key)))
        first = await handlers.create_payment(slow, caller, wanted("first"))
    assert [(each.response.status, reference_of(each)) for each in (first, *seconds)] == [
        (201, "first"),
        (201, "second"),
    ]


@pytest.mark.slow
async def test_all_is_certain_soon_after_a_long_silence_of_the_bank(stack: Stack) -> None:
    stack.extra = {"PAYMENTS_BANK_TIMEOUT_SECONDS": "0.5"}
    bank = await stack.start("bank")
    await stack.start("api")
    await stack.start("resolver")
    bank.popen.send_signal(19)
    answers = await asyncio.gather(*(stack.pay(f"r{number}") for number in range(60)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(202) >= 10
    refused = [answer for answer in answers if answer.status != 202]  # they came after the breaker had opened
    assert {(answer.status, answer.json["type"]) for answer in refused} <= {(503, "urn:lab:bank_unavailable")}
    assert len(await stack.sql("SELECT 1 FROM payments")) == statuses.count(202)

    async def tried_often() -> bool:
        (row,) = await stack.sql("SELECT min(attempts) AS least FROM operations")
        return bool(row["least"] >= 3)

    await until(tried_often, what="several attempts of each", within=60)
    bank.popen.send_signal(18)

    async def certain() -> bool:
        return not await stack.sql("SELECT 1 FROM payments WHERE status <> 'captured'")

    await until(certain, what="certainty", within=60)
    assert not await stack.sql("SELECT 1 FROM charges GROUP BY source HAVING count(*) <> 1", database="bank")


async def test_a_dead_bank_gives_202_within_the_timeout_and_too_many_requests_are_shed(stack: Stack) -> None:
    stack.extra = {"PAYMENTS_BANK_TIMEOUT_SECONDS": "1", "PAYMENTS_MAX_IN_FLIGHT": "5"}
    bank = await stack.start("bank")
    await stack.start("api")
    await stack.pay("warm")
    bank.popen.send_signal(19)
    answers = await asyncio.gather(*(stack.pay(f"r{number}") for number in range(20)))
    bank.popen.send_signal(18)
    statuses = [answer.status for answer in answers]
    assert statuses.count(202) >= 5
    assert set(statuses) == {202, 503}
    shed = next(answer for answer in answers if answer.status == 503)
    assert (shed.json["type"], shed.headers["Retry-After"]) == ("urn:lab:overloaded", "1")
    stored = await stack.sql("SELECT 1 FROM payments WHERE reference <> 'warm'")
    assert len(stored) == statuses.count(202)


async def test_sigterm_finishes_what_is_in_flight_and_exits_0(stack: Stack) -> None:
    await stack.start("bank")
    api = await stack.start("api")
    await stack.behave("latency", mean_ms=500, sigma=0)
    paying = asyncio.create_task(stack.pay("slow"))

    async def begun_there() -> bool:
        return bool(await stack.sql("SELECT 1 FROM operations WHERE status = 'pending'"))

    await until(begun_there)
    assert await asyncio.to_thread(api.terminate) == 0
    assert (await paying).status == 201


async def test_an_answer_about_another_amount_is_not_believed_until_the_bank_mends_it(stack: Stack) -> None:
    bank = FakeBank(tells={"amount": 999})
    async with bank.serve(stack.ports["bank"]), parts(stack) as (context, resolver, _):
        payment, _ = await begun(context, "another-amount")
        assert not await attempt(context, resolver)
        assert not await attempt(context, resolver)
        assert await status(stack, payment) == "processing"

        bank.tells = {"amount": 1000, "currency": "EUR"}
        assert await attempt(context, resolver)

    assert await status(stack, payment) == "captured"
    assert len(bank.charged) == 1
