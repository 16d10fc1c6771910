"""Our client of the bank against a bank whose every answer the test decides: retries, their budget, shards, slow calls."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

import pytest
from aiohttp import web

from infra.native.free_ports import free_ports
from services.kit import deadline, ids
from services.patterns.breaker import Rule, State
from services.patterns.deadline import Deadline
from services.payments.bank import RETRIES, Bank, BankUnavailable, ShardAway
from services.payments.domain import Done, Operation, OperationKind, Payment, PaymentStatus, Unknown
from tests.integration.payments.fake_bank import FakeBank

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLS = 100


def order(reference: str) -> tuple[Payment, Operation]:
    payment = Payment(
        ids.uuid7(), "mer", reference, f"tok_{reference}", 1000, "EUR", True, None, PaymentStatus.PROCESSING, NOW, NOW
    )  # fmt: skip
    return payment, Operation(ids.uuid7(), payment.id, OperationKind.AUTHORISE, 1000, f"op_{reference}", NOW)


def away_for(bank: Bank, source: str) -> float | None:
    """Seconds for which a command with this card is refused, None if it is not. Leaves the breaker as it was."""
    with bank.place() as place:
        try:
            place.take(source)
        except ShardAway as away:
            return away.seconds
    return None


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def test_a_call_whose_connection_broke_is_sent_once_more_under_its_reference() -> None:
    port = free_ports(1)[0]
    fake = FakeBank(gets_through=lambda _, nth: nth > 1, breaks=True)
    async with fake.serve(port), Bank(address(port), "key", timeout=2, retries=RETRIES) as bank:
        assert isinstance(await bank.execute(*order("a")), Done)
    assert fake.calls == ["send", "send"]
    assert list(fake.charged) == ["op_a"]


async def test_what_the_bank_could_not_do_is_left_to_the_resolver() -> None:
    """Checkout tries again too: two places that do would multiply the load on a bank that is in trouble."""
    port = free_ports(1)[0]
    fake = FakeBank(gets_through=lambda _, nth: nth > 1)
    async with fake.serve(port), Bank(address(port), "key", timeout=2, retries=RETRIES) as bank:
        assert await bank.execute(*order("a")) == Unknown("server_error")
    assert fake.calls == ["send"]


async def test_without_a_policy_nothing_is_sent_again() -> None:
    port = free_ports(1)[0]
    fake = FakeBank(gets_through=lambda _, nth: nth > 1, breaks=True)
    async with fake.serve(port), Bank(address(port), "key", timeout=2) as bank:
        assert await bank.execute(*order("a")) == Unknown("connection_lost", unanswered=True)
    assert fake.calls == ["send"]


async def test_retries_are_within_a_budget_that_all_shards_share() -> None:
    port = free_ports(1)[0]
    async with FakeBank(gets_through=lambda *_: False, breaks=True).serve(port) as fake:
        shards = (address(port),) * 3
        async with Bank(address(port), "key", timeout=2, shards=shards, retries=RETRIES) as bank:
            for breaker in bank.breakers.values():
                breaker.force(State.CLOSED)
            started = asyncio.get_running_loop().time()
            for number in range(CALLS):
                assert await bank.execute(*order(f"r{number}")) == Unknown("connection_lost", unanswered=True)
            seconds = asyncio.get_running_loop().time() - started
    # initial 5, a twentieth of the calls, and half a retry a second: see RetryBudget
    assert CALLS < len(fake.calls) <= CALLS + 5 + 0.05 * CALLS + 0.5 * seconds + 1


async def test_one_dead_shard_opens_its_own_breaker_only() -> None:
    alive, dead = free_ports(2)
    rule = Rule(minimum_calls=5, open_seconds=60)
    async with FakeBank().serve(alive):
        urls = (address(alive), address(dead))
        async with Bank(address(alive), "key", timeout=2, shards=urls, rule=rule) as bank:
            outcomes = [await bank.execute(*order(f"s{number}")) for number in range(40)]
            assert {shard: breaker.state for shard, breaker in bank.breakers.items()} == {
                "0": State.CLOSED,
                "1": State.OPEN,
            }
            away = [away_for(bank, f"tok_s{number}") for number in range(40)]
    assert outcomes.count(Unknown("not_connected")) == 5
    assert all(isinstance(outcome, Done) for outcome, pause in zip(outcomes, away, strict=True) if pause is None)
    assert outcomes.count(Unknown("breaker_open")) == sum(pause is not None for pause in away) - 5
    assert all(0 < pause <= 60 for pause in away if pause is not None)


async def test_not_found_is_no_proof_that_a_shard_is_well() -> None:
    """The resolver asks before it sends; a shard that charges nobody but still looks up would close the breaker."""
    port = free_ports(1)[0]
    fake = FakeBank(gets_through=lambda call, _: call != "send")
    rule = Rule(minimum_calls=5, failure_share=0.6, open_seconds=1.0, probes=2)
    async with fake.serve(port), Bank(address(port), "key", timeout=2, rule=rule) as bank:
        for number in range(5):
            assert await bank.ask(*order(f"a{number}")) == Unknown("not_found")
            assert await bank.execute(*order(f"a{number}")) == Unknown("server_error")
        states = [bank.breakers["0"].state]
        await asyncio.sleep(1.1)
        for number in range(3):
            assert await bank.ask(*order(f"b{number}")) == Unknown("not_found")
        states.append(bank.breakers["0"].state)
    assert states == [State.OPEN, State.HALF_OPEN]


async def test_a_bank_that_answers_everything_too_late_opens_it_without_one_failure() -> None:
    port = free_ports(1)[0]

    async def late(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(0.05)
        return web.json_response({"id": f"ch_{body['reference']}", "status": "captured"}, status=201)

    app = web.Application()
    app.router.add_post("/v1/charges", late)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        rule = Rule(minimum_calls=5, slow_seconds=0.02, open_seconds=60)
        async with Bank(address(port), "key", timeout=2, rule=rule) as bank:
            outcomes = [await bank.execute(*order(f"s{number}")) for number in range(6)]
            assert bank.breakers["0"].state is State.OPEN
    finally:
        await runner.cleanup()
    assert all(isinstance(outcome, Done) for outcome in outcomes[:5])
    assert outcomes[5] == Unknown("breaker_open")


async def test_a_call_ends_with_its_callers_deadline_and_none_is_begun_when_that_is_over() -> None:
    port = free_ports(1)[0]

    async def hangs(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/charges", hangs)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with Bank(address(port), "key", timeout=20) as bank:
            with deadline.bound(Deadline.after(1.0)):
                assert await bank.execute(*order("a")) == Unknown("timeout", unanswered=True)
                await asyncio.sleep(1.0)
                assert await bank.execute(*order("b")) == Unknown("no_time_left")
            assert bank.breakers["0"].counts.calls <= 1
    finally:
        await runner.cleanup()


async def test_a_settlement_file_that_cannot_be_had_is_one_sentence() -> None:
    port = free_ports(1)[0]
    async with Bank(address(port), "key", timeout=2) as bank:
        with pytest.raises(BankUnavailable, match=r"could not be fetched \(not_connected\)"):
            await bank.settlement(date(2026, 1, 1))
        async with FakeBank().serve(port):
            with pytest.raises(BankUnavailable, match="answered 404"):
                await bank.settlement(date(2026, 1, 1))
