"""One function per command."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.checkout import failpoints, metrics
from services.checkout.domain import Checkout
from services.checkout.payments import Paid, Payments
from services.checkout.schemas import CreateCheckout
from services.kit.errors import Problem
from services.kit.failpoint import failpoint


async def create_checkout(payments: Payments, caller: Mapping[str, str], wanted: CreateCheckout) -> Paid:
    """Have it paid. The same key asks for the same payment, whichever process is asked. Raises Problem."""
    await failpoint(failpoints.BEFORE_PAYMENT)
    try:
        paid = await payments.pay(caller, wanted)
    except Problem as problem:
        metrics.CHECKOUTS.labels(problem.code).inc()
        raise
    await failpoint(failpoints.AFTER_PAYMENT)
    metrics.CHECKOUTS.labels(paid.checkout.status.value).inc()
    return paid


async def get_checkout(payments: Payments, caller: Mapping[str, str], checkout: UUID) -> Checkout:
    """As it is now. Raises Problem."""
    return await payments.find(caller, checkout)
