"""Checkout, payments and the bank on real processes and real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.checkout.stack import CheckoutStack
from tests.servers import PostgresServer


async def begin(stack: CheckoutStack) -> None:
    await stack.migrate()
    await stack.start("bank")
    await asyncio.gather(stack.start("api"), stack.start("checkout"))


@pytest.fixture
async def stack(postgres_server: PostgresServer) -> AsyncIterator[CheckoutStack]:
    """For tests that break something. Migrated, nothing running."""
    made = CheckoutStack(postgres_server)
    try:
        await made.migrate()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def running(postgres_server: PostgresServer) -> Iterator[CheckoutStack]:
    """Bank, payments API and checkout, shared by the tests that break nothing."""
    made = CheckoutStack(postgres_server)
    try:
        asyncio.run(begin(made))
        yield made
    finally:
        made.stop()
