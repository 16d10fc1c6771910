"""A stack a test: real Postgres and real processes; Kafka where a test asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.payments.stack import OPS_KEY, Stack
from tests.servers import KafkaServer, PostgresServer


@pytest.fixture
async def stack(postgres_server: PostgresServer) -> AsyncIterator[Stack]:
    """Migrated, nothing running. No broker."""
    made = Stack(postgres_server)
    try:
        await made.migrate()
        yield made
    finally:
        made.stop()


@pytest.fixture
async def kafka_stack(postgres_server: PostgresServer, kafka_server: KafkaServer) -> AsyncIterator[Stack]:
    """Migrated, with its topic."""
    made = Stack(postgres_server, kafka_server.bootstrap)
    try:
        await made.migrate()
        await made.create_topics()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def running(postgres_server: PostgresServer) -> Iterator[Stack]:
    """Bank, API and resolver, shared by the tests that break nothing: each uses references and keys of its own."""
    made = Stack(postgres_server, extra={"PAYMENTS_OPS_KEY": OPS_KEY})

    async def begin() -> None:
        await made.migrate()
        await made.start("bank")
        await asyncio.gather(made.start("api"), made.start("resolver"))

    try:
        asyncio.run(begin())
        yield made
    finally:
        made.stop()
