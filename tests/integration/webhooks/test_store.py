"""Outcomes that come in another order than their attempts began, and secrets that cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.kit import ids, postgres
from services.kit.store import Pool
from services.webhooks.dispatcher import aftermath
from services.webhooks.domain import DELIVERED, AttemptOutcome, DeliveryState, DisabledReason, Judgement
from services.webhooks.signing import parse_verifying_key, verify
from services.webhooks.store import Aftermath, Claim, DeliveryStore, Ended, EndpointStore
from tests.integration.webhooks.stack import Receivers, Stack, until

pytestmark = pytest.mark.integration


@pytest.fixture
async def pool(stack: Stack) -> AsyncIterator[Pool]:
    url = stack.environment()["WEBHOOKS_DATABASE_URL"]
    async with await postgres.create_pool(url, name="test", maximum=4) as made:
        yield made


def ended(claim: Claim, state: str) -> Ended:
    now = datetime.now(UTC)
    outcome = AttemptOutcome.DELIVERED if state == "delivered" else AttemptOutcome.REFUSED
    delay = None if state == "delivered" else 60.0
    return Ended(claim, now, now, outcome.value, 200, None, b"", state, claim.step + 1, delay, None)


async def test_an_endpoint_that_was_well_in_the_meantime_is_not_disabled_for_failing(
    stack: Stack, receivers: Receivers, pool: Pool
) -> None:
    await stack.start("api")
    made = await stack.endpoint(receivers.url("/a"))
    for number in range(2):
        await stack.publish(f"e{number}")
    await stack.sql("UPDATE endpoints SET failing_since = now() - interval '6 days'")
    store = DeliveryStore(pool)
    endpoint = ids.decode("ep", made["id"])
    assert endpoint is not None
    one, two = await store.claim({endpoint: 2}, 60)
    now, days = datetime.now(UTC), 5 * 86_400.0
    retry = Judgement(DeliveryState.SCHEDULED, delay=60.0)

    batch = [(ended(one, "delivered"), DELIVERED), (ended(two, "scheduled"), retry)]
    await store.finish([each for each, _ in batch], aftermath(batch, now, days))
    assert (await stack.request("GET", f"/v1/endpoints/{made['id']}")).json["enabled"] is True

    late = Aftermath(disable={endpoint: DisabledReason.FAILING.value})
    await store.finish([ended(two, "scheduled")], late)
    assert (await stack.request("GET", f"/v1/endpoints/{made['id']}")).json["enabled"] is True


async def test_an_endpoint_whose_secret_cannot_be_read_any_more_gets_a_new_one_by_rotation(
    stack: Stack, receivers: Receivers
) -> None:
    await stack.start("api")
    made = await stack.endpoint(receivers.url("/a"))
    await stack.sql("UPDATE endpoints SET secrets = '\\x00'::bytea || secrets")
    path = f"/v1/endpoints/{made['id']}"
    assert (await stack.request("GET", path)).status == 200
    rotated = await stack.request("POST", f"{path}/secret/rotate")
    assert rotated.status == 200
    assert rotated.json["secret"] != made["secret"]
    await stack.start("dispatcher")
    await stack.publish("e1")
    await until(stack.settled, what="delivery")
    assert len(receivers.received) == 1


async def test_two_rotations_at_once_lose_neither_secret(stack: Stack, receivers: Receivers) -> None:
    await stack.start("api")
    made = await stack.endpoint(receivers.url("/a"))
    path = f"/v1/endpoints/{made['id']}/secret/rotate"
    answers = await asyncio.gather(*(stack.request("POST", path) for _ in range(3)))
    assert [answer.status for answer in answers] == [200, 200, 200]
    await stack.start("dispatcher")
    await stack.publish("e1")
    await until(stack.settled, what="delivery")
    (got,) = receivers.received
    for secret in [made["secret"], *(answer.json["secret"] for answer in answers)]:
        key = parse_verifying_key(secret)
        assert verify(got.headers, got.body, [key], now=datetime.now(UTC).timestamp())


async def test_a_change_of_something_else_does_not_switch_on_what_was_switched_off_meanwhile(
    stack: Stack, receivers: Receivers, pool: Pool
) -> None:
    await stack.start("api")
    made = await stack.endpoint(receivers.url("/a"))
    identity = ids.decode("ep", made["id"])
    assert identity is not None
    endpoints = EndpointStore(pool)
    seen = await endpoints.get("app_demo", identity)
    assert seen is not None
    await stack.sql("UPDATE endpoints SET enabled = false, disabled_reason = 'gone', disabled_at = now()")
    changed = await endpoints.update(replace(seen, description="new"), enabled=None)
    assert changed is not None
    assert (changed.enabled, changed.disabled_reason, changed.description) == (False, "gone", "new")
