"""The resolver's pace while the bank is not to be called."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from services.kit import ids
from services.kit.clock import SystemClock
from services.payments import resolver as module
from services.payments.bank import Bank
from services.payments.domain import Operation, OperationKind, Outcome, Payment, PaymentStatus, Unknown
from services.payments.handlers import Context
from services.payments.resolver import AWAY_SECONDS, Resolver
from services.payments.settings import PaymentsSettings
from services.payments.store import Claim, PaymentStore

CONCURRENCY = 4


def claim() -> Claim:
    now = datetime.now(UTC)
    payment = Payment(
        ids.uuid7(), "mer", "r", "tok_r", 1, "EUR", True, None, PaymentStatus.PROCESSING, now, now
    )  # fmt: skip
    return Claim(payment, Operation(ids.uuid7(), payment.id, OperationKind.AUTHORISE, 1, "op_1", now), None)


@dataclass
class EndlessWork:
    """A store with more due operations than anybody can resolve."""

    claimed_at: list[float] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def claim_due(self, lease_seconds: float, limit: int) -> list[Claim]:
        self.claimed_at += [time.monotonic()] * limit
        if len(self.claimed_at) >= 3 * CONCURRENCY:
            self.enough.set()
        return [claim() for _ in range(limit)]

    async def park(self, *_: object) -> bool:
        return False


@dataclass
class SilentBank:
    reason: str

    async def ask(self, payment: Payment, operation: Operation) -> Outcome:
        return Unknown(self.reason)


async def seconds_for_three_rounds(reason: str) -> float:
    settings: dict[str, Any] = {
        "database_url": "x", "bank_url": "http://bank", "bank_api_key": "k", "bank_webhook_secret": "s",
        "kafka_bootstrap": "k:1", "resolver_concurrency": CONCURRENCY, "resolver_poll_seconds": 0.001,
    }  # fmt: skip
    store = EndlessWork()
    context = Context(
        cast("PaymentStore", store), cast("Bank", SilentBank(reason)), SystemClock(), random.Random(1),
        PaymentsSettings(**settings),
    )  # fmt: skip
    running = asyncio.create_task(Resolver(context).run())
    try:
        await asyncio.wait_for(store.enough.wait(), 30)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return store.claimed_at[3 * CONCURRENCY - 1] - store.claimed_at[0]


@pytest.mark.slow
async def test_it_does_not_go_round_and_round_while_every_breaker_is_open() -> None:
    assert await seconds_for_three_rounds("breaker_open") >= 2 * AWAY_SECONDS * 0.9


async def test_any_other_answer_keeps_it_going() -> None:
    never = timedelta(days=1).total_seconds()
    before, module.AWAY_SECONDS = module.AWAY_SECONDS, never
    try:
        await seconds_for_three_rounds("timeout")
    finally:
        module.AWAY_SECONDS = before
