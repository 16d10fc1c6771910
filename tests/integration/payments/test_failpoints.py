"""Kill the process at every failpoint, start it again, send the same request: one charge, one event, a balanced ledger."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from services.payments import failpoints
from services.payments.domain import OperationKind
from services.payments.failpoints import PHASES
from tests.integration.payments.stack import Answer, Process, Stack, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUICK = {"PAYMENTS_LEASE_MARGIN_SECONDS": "0.5", "PAYMENTS_BANK_TIMEOUT_SECONDS": "2", "PAYMENTS_SWEEP_SECONDS": "0.3"}
API_POINTS = [(kind, point) for kind, phases in PHASES.items() for point in (phases.before_insert, phases.after_insert, phases.after_bank_answer, phases.after_commit)]  # fmt: skip


async def send_until_answered(stack: Stack, path: str, key: str, body: object) -> Answer:
    """As a client does: the same request under the same key, until the answer is neither a lost line nor in flight."""

    async def attempt() -> Answer | None:
        try:
            answer = await stack.request("POST", path, json=body, key=key)
        except aiohttp.ClientError:
            return None
        return None if answer.status in (409, 503) else answer

    return await until(attempt, what=f"an answer to {path}")


async def assert_sound(stack: Stack, reference: str, status: str, event: str) -> None:
    """What holds whatever died: certainty, one charge, a ledger of zero, one event of each kind."""

    async def decided() -> bool:
        rows = await stack.sql("SELECT 1 FROM operations WHERE status IN ('pending', 'unknown')")
        return not rows

    await until(decided, what="certainty")
    (payment,) = await stack.sql("SELECT * FROM payments WHERE reference = $1", reference)
    assert payment["status"] == status
    charges = await stack.sql("SELECT * FROM charges WHERE source = $1", f"tok_{reference}", database="bank")
    assert len(charges) == 1
    assert charges[0]["captured"] == payment["captured_amount"]
    assert charges[0]["refunded"] == payment["refunded_amount"]
    assert not await stack.sql("SELECT 1 FROM ledger_entries GROUP BY currency HAVING sum(amount) <> 0")
    (held,) = await stack.sql("SELECT coalesce(sum(amount), 0) AS total FROM ledger_entries WHERE account = 'bank'")
    assert held["total"] == payment["captured_amount"] - payment["refunded_amount"]
    if stack.bootstrap.endswith(":1"):
        types = [row["type"] for row in await stack.sql("SELECT type FROM outbox ORDER BY id")]
    else:
        await until(lambda: outbox_is_empty(stack), what="an empty outbox")
        types = [
            kind for _, kind, _ in {event_id: each for each in await stack.events() for event_id in [each[2]]}.values()
        ]
    assert types.count(event) == 1


async def outbox_is_empty(stack: Stack) -> bool:
    return not await stack.sql("SELECT 1 FROM outbox")


async def restarted(stack: Stack, process: Process, role: str) -> None:
    await until(lambda: stack.died(process), what=f"the death of {role}")
    assert process.popen.returncode == -9
    await stack.start(role)


STEPS = {
    OperationKind.AUTHORISE: ("captured", "payments.payment.captured"),
    OperationKind.CAPTURE: ("captured", "payments.payment.captured"),
    OperationKind.VOID: ("voided", "payments.payment.voided"),
    OperationKind.REFUND: ("refunded", "payments.payment.refunded"),
}


async def prepare(stack: Stack, kind: OperationKind) -> tuple[str, object]:
    """Bring a payment to where `kind` may begin; return path and body of the request."""
    if kind is OperationKind.AUTHORISE:
        return "/v1/payments", {"amount": 1000, "currency": "EUR", "source": "tok_r1", "reference": "r1"}
    capture = "automatic" if kind is OperationKind.REFUND else "manual"
    made = await stack.pay("r1", key="first", capture=capture)
    assert made.status == 201
    noun = "refunds" if kind is OperationKind.REFUND else kind.value
    return f"/v1/payments/{made.json['id']}/{noun}", {}


@pytest.mark.parametrize(("kind", "point"), API_POINTS, ids=[point for _, point in API_POINTS])
async def test_the_api_killed_at_any_point_charges_once(stack: Stack, kind: OperationKind, point: str) -> None:
    stack.extra = QUICK
    await stack.start("bank")
    api = await stack.start("api")
    path, body = await prepare(stack, kind)
    await stack.arm(api, point)

    answering = asyncio.create_task(send_until_answered(stack, path, "k", body))
    await restarted(stack, api, "api")
    answer = await answering

    assert answer.status in (200, 201)
    await assert_sound(stack, "r1", *STEPS[kind])


@pytest.mark.parametrize("point", API_POINTS[1:3], ids=lambda each: each[1])
async def test_without_the_client_the_resolver_finishes_what_the_api_left(
    stack: Stack, point: tuple[OperationKind, str]
) -> None:
    stack.extra = QUICK
    await stack.start("bank")
    await stack.start("resolver")
    api = await stack.start("api", failpoints=f"{point[1]}=kill@1")

    with pytest.raises(aiohttp.ClientError):
        await stack.pay("r1")

    await until(lambda: stack.died(api), what="the death of the api")
    await assert_sound(stack, "r1", *STEPS[OperationKind.AUTHORISE])


@pytest.mark.parametrize("point", failpoints.RESOLVER[:3])
async def test_the_resolver_killed_at_any_point_charges_once(stack: Stack, point: str) -> None:
    stack.extra = QUICK
    await stack.start("bank")
    await stack.start("api")
    resolver = await stack.start("resolver", failpoints=f"{point}=kill@1")
    await stack.behave("loses_answer", share=1, hold_seconds=5)

    answer = await stack.pay("r1")
    await stack.behave_well("loses_answer")
    await restarted(stack, resolver, "resolver")

    assert answer.status == 202
    await assert_sound(stack, "r1", "captured", "payments.payment.captured")


async def test_the_resolver_killed_while_expiring_an_authorisation_voids_once(stack: Stack) -> None:
    stack.extra = QUICK
    await stack.start("bank")
    await stack.start("api")
    assert (await stack.pay("r1", capture="manual")).status == 201
    await stack.sql("UPDATE payments SET expires_at = now() - interval '1 second'")
    resolver = await stack.start("resolver", failpoints=f"{failpoints.RESOLVER_AFTER_EXPIRY}=kill@2")

    await restarted(stack, resolver, "resolver")

    async def expired() -> bool:
        return bool(await stack.sql("SELECT 1 FROM payments WHERE status = 'expired'"))

    await until(expired, what="expiry")
    await assert_sound(stack, "r1", "expired", "payments.payment.expired")
    voids = await stack.sql("SELECT 1 FROM effects WHERE kind = 'void'", database="bank")
    assert len(voids) == 1


@pytest.mark.parametrize("point", failpoints.RELAY)
async def test_the_relay_killed_at_any_point_loses_no_event(kafka_stack: Stack, point: str) -> None:
    stack = kafka_stack
    await stack.start("bank")
    await stack.start("api")
    relay = await stack.start("relay", failpoints=f"{point}=kill@1")

    answer = await stack.pay("r1")
    await restarted(stack, relay, "relay")

    assert answer.status == 201
    await assert_sound(stack, "r1", "captured", "payments.payment.captured")


def test_every_failpoint_is_walked() -> None:
    walked = (
        {point for _, point in API_POINTS}
        | set(failpoints.RESOLVER)
        | set(failpoints.RELAY)
        | set(failpoints.RECONCILER)
    )
    assert walked == set(failpoints.ALL)
