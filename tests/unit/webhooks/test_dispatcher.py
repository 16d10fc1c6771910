"""The dispatcher's loops with a store in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from pydantic import SecretStr

from services.kit.clock import SystemClock
from services.kit.http import Tasks
from services.webhooks.dispatcher import Dispatcher
from services.webhooks.domain import AttemptOutcome, Result
from services.webhooks.sender import Sender
from services.webhooks.settings import WebhooksSettings
from services.webhooks.store import Aftermath, Claim, DeliveryStore, Ended
from services.webhooks.store.deliveries import Ready

ENDPOINT = UUID(int=1)


class OneDelivery:
    """One claim, whose answer is slow to come."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.finished: list[Ended] = []

    async def ready(self) -> list[Ready]:
        return [] if self.asked.is_set() else [Ready(ENDPOINT, True, None, None)]

    async def claim(self, lanes: Mapping[UUID, int], lease_seconds: float) -> list[Claim]:
        del lanes, lease_seconds
        self.asked.set()
        await self.answer.wait()
        now = datetime.now(UTC)
        return [Claim(UUID(int=2), UUID(int=3), UUID(int=4), ENDPOINT, "app_x", 0, 0, False, "e", "t", b"{}", False, None, now, "", b"", None)]  # fmt: skip

    async def finish(self, batch: Sequence[Ended], after: Aftermath) -> set[UUID]:
        del after
        self.finished += batch
        return {each.claim.delivery_id for each in batch}

    async def take_back(self, limit: int) -> int:
        return 0 * limit


class Delivers:
    async def attempt(self, claim: Claim, now: float) -> Result:
        del claim, now
        return Result(AttemptOutcome.DELIVERED, 200)


async def test_a_claim_that_comes_back_during_the_shutdown_is_attempted_and_its_outcome_is_durable() -> None:
    store, tasks = OneDelivery(), Tasks()
    settings = WebhooksSettings(database_url=SecretStr("x"), secrets_key=SecretStr("x" * 16))
    dispatcher = Dispatcher(
        cast("DeliveryStore", store), cast("Sender", Delivers()), settings, clock=SystemClock(), chance=random.Random(1)
    )
    dispatcher.start(tasks)
    async with asyncio.timeout(20):
        await store.asked.wait()
        draining = asyncio.create_task(dispatcher.drain(5))
        await asyncio.sleep(0)
        store.answer.set()
        await draining
        await tasks.stop()
    assert [each.outcome for each in store.finished] == ["delivered"]
