"""Works on operations that nobody works on until the bank's answer is final, and sweeps what has expired.

It asks first. *Not found* proves nothing, since the first call may still be on its way; so it then sends the operation again
under the same reference, or, if it is an old authorisation, cancels the reference at the bank. Only those answers are final.
After a sending that got no answer it only asks for a while: a slow bank has the request in its queue.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from services.kit import postgres, tracing
from services.kit.client import Reason
from services.kit.clock import Clock, SystemClock
from services.kit.current import Current
from services.kit.failpoint import failpoint
from services.kit.http import Tasks, service_app
from services.kit.settings import ProcessSettings
from services.payments import failpoints, handlers, metrics, ops
from services.payments.bank import bank_client
from services.payments.domain import (
    IllegalState,
    Operation,
    OperationKind,
    Outcome,
    Payment,
    Unknown,
)
from services.payments.handlers import Context
from services.payments.settings import PaymentsSettings
from services.payments.store import Claim, PaymentStore, StoreUnavailable

log = logging.getLogger(__name__)

GAUGE_SECONDS = 1.0
SWEEP_BATCH = 1000
BANK_EVENTS_KEPT = timedelta(hours=24)
AWAY_SECONDS = 0.5


class Resolver:
    """Up to `resolver_concurrency` operations at once; claims are leases, so any number of resolvers may run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: set[asyncio.Task[None]] = set()
        self._refused = 0

    async def run(self) -> None:
        """Resolve until cancelled; what is being worked on then is dropped, its lease ends by itself."""
        settings = self._context.settings
        try:
            while True:
                free = settings.resolver_concurrency - len(self._running)
                begun = await self._begin(free) if free else 0
                if self._running and begun == free:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(settings.resolver_poll_seconds)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _begin(self, limit: int) -> int:
        if self._refused >= self._context.settings.resolver_concurrency:
            # Every breaker that was asked is open: claiming on would cost two commits each and tell nothing.
            self._refused = 0
            await asyncio.sleep(AWAY_SECONDS)
        try:
            claims = await self._context.store.claim_due(self._context.settings.lease_seconds, limit)
        except StoreUnavailable as error:
            log.warning("the database is away", extra={"error": str(error)})
            await asyncio.sleep(AWAY_SECONDS)
            return 0
        for claim in claims:
            task = asyncio.create_task(self._resolve_safely(claim))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return len(claims)

    async def _resolve_safely(self, claim: Claim) -> None:
        where = {"operation": claim.operation.bank_reference}
        try:
            with tracing.span(f"resolve {claim.operation.kind}", links=[claim.traceparent], new_trace=True) as span:
                span.set("payments.operation.attempt", claim.operation.attempts)
                span.set("payments.operation.decided", await self.resolve(claim))
        except StoreUnavailable as error:
            log.warning("the database went away; the lease will end", extra=where | {"error": str(error)})
        except IllegalState:
            log.info("somebody else has decided the operation", extra=where)

    async def resolve(self, claim: Claim) -> bool:
        """One attempt. True if the operation is decided. Raises StoreUnavailable."""
        await failpoint(failpoints.RESOLVER_AFTER_CLAIM)
        outcome = handlers.believed(claim, await self._find_out(claim))
        await failpoint(failpoints.RESOLVER_AFTER_BANK_ANSWER)
        never_asked = isinstance(outcome, Unknown) and outcome.reason == Reason.BREAKER_OPEN
        self._refused = self._refused + 1 if never_asked else 0
        if isinstance(outcome, Unknown):
            await handlers.park(self._context, claim, outcome, None)
            return False
        await handlers.finish(self._context, claim, outcome)
        await failpoint(failpoints.RESOLVER_AFTER_COMMIT)
        return True

    async def _find_out(self, claim: Claim) -> Outcome:
        bank, operation = self._context.bank, claim.operation
        outcome = await bank.ask(claim.payment, operation)
        if not isinstance(outcome, Unknown) or outcome.reason != "not_found":
            return outcome
        if self._too_old(operation):
            return await bank.cancel(claim.payment, operation)
        return await bank.execute(claim.payment, operation) if claim.may_send else outcome

    def _too_old(self, operation: Operation) -> bool:
        """A customer should not be charged long after the merchant has stopped waiting. Money already held is another thing."""
        age = self._context.clock.now() - operation.created_at
        return (
            operation.kind is OperationKind.AUTHORISE
            and age.total_seconds() >= self._context.settings.cancel_after_seconds
        )

    async def sweep(self) -> None:
        """Begin the voids of expired authorisations; forget expired keys. Raises StoreUnavailable."""
        store, now = self._context.store, self._context.clock.now()

        def void(payment: Payment) -> Operation:
            return handlers.new_operation(payment, OperationKind.VOID, payment.amount, now, expiring=True)

        begun = await _all(lambda: store.begin_expiry(now, void, SWEEP_BATCH))
        await failpoint(failpoints.RESOLVER_AFTER_EXPIRY)
        swept = await _all(lambda: store.sweep_keys(now, SWEEP_BATCH))
        await _all(lambda: store.sweep_bank_events(now - BANK_EVENTS_KEPT, SWEEP_BATCH))
        if begun or swept:
            log.info("swept", extra={"authorisations_expired": begun, "keys_forgotten": swept})

    async def sweep_forever(self) -> None:
        """`sweep` again and again."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("the database is away", extra={"error": str(error)})
            await asyncio.sleep(self._context.settings.sweep_seconds)

    async def measure(self) -> None:
        """Keep the gauges of unknown operations."""
        while True:
            try:
                count, oldest = await self._context.store.unknown()
            except StoreUnavailable:
                pass
            else:
                metrics.UNKNOWN_OPERATIONS.set(count)
                metrics.UNKNOWN_OLDEST.set(oldest)
            await asyncio.sleep(GAUGE_SECONDS)


async def _all(batch: Callable[[], Awaitable[int]]) -> int:
    """Batch after batch until one is not full: the tables must not grow faster than they are swept."""
    total = 0
    while (swept := await batch()) == SWEEP_BATCH:
        total += swept
    return total + swept


def create_worker(
    process: ProcessSettings, settings: PaymentsSettings, *, clock: Clock | None = None
) -> tuple[FastAPI, Tasks]:
    """The resolver process."""
    failpoints.register(*failpoints.RESOLVER)
    tasks, current = Tasks(), Current[Context]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        url = settings.database_url.get_secret_value()
        bank = bank_client(settings)
        async with (
            await postgres.create_pool(url, name="payments-resolver", maximum=settings.database_pool) as pool,
            bank,
        ):
            context = Context(PaymentStore(pool), bank, clock or SystemClock(), random.SystemRandom(), settings)
            resolver = Resolver(context)
            with current.holding(context):
                tasks.start("resolver", resolver.run())
                tasks.start("sweeper", resolver.sweep_forever())
                tasks.start("gauges", resolver.measure())
                yield
                await tasks.stop()

    checks = {"database": current.ready(lambda it: it.store.answers())}
    app = service_app("payments-resolver", process, lifespan=lifespan, checks=checks)
    if settings.ops_key.get_secret_value():
        app.include_router(ops.routes(lambda: current().bank, settings.ops_key))
    return app, tasks
