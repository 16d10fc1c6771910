"""Store, bank client and resolver inside the test, so that it decides when each step happens."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from services.kit import ids, postgres
from services.patterns.breaker import Rule
from services.payments import handlers
from services.payments.bank import BREAKER, Bank
from services.payments.domain import Operation, OperationKind, Payment, PaymentStatus
from services.payments.handlers import Context
from services.payments.resolver import Resolver
from services.payments.store import NewKey, PaymentStore
from tests.integration.payments.stack import Stack, until


class SetClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


@asynccontextmanager
async def parts(
    stack: Stack, *, rule: Rule = BREAKER, **settings: Any
) -> AsyncIterator[tuple[Context, Resolver, SetClock]]:
    """Store, bank client and resolver inside the test, so that it decides when each step happens."""
    chosen = stack.settings(**settings)
    clock = SetClock()
    key = chosen.bank_api_key.get_secret_value()
    to_bank = Bank(chosen.bank_url, key, timeout=chosen.bank_timeout_seconds, rule=rule)
    async with await postgres.create_pool(stack.app_url, name="test") as pool, to_bank as bank:
        context = Context(PaymentStore(pool), bank, clock, random.Random(1), chosen)
        yield context, Resolver(context), clock


async def begun(context: Context, reference: str) -> tuple[Payment, Operation]:
    """A payment as a crash right after the first commit leaves it."""
    now = context.clock.now()
    payment = Payment(
        ids.uuid7(), "mer_demo", reference, f"tok_{reference}", 1000, "EUR", True, None, PaymentStatus.PROCESSING, now, now
    )  # fmt: skip
    operation = handlers.new_operation(payment, OperationKind.AUTHORISE, 1000, now, attempts=1)
    key = NewKey(f"key-{reference}", b"f" * 32, now + timedelta(hours=1))
    assert await context.store.begin_payment(payment, operation, key, 0)
    return payment, operation


async def attempt(context: Context, resolver: Resolver) -> bool:
    async def due() -> list[Any]:
        return await context.store.claim_due(5, 10)

    (claim,) = await until(due, what="a due operation")
    return await resolver.resolve(claim)
