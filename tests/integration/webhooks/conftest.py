"""A stack a test: real Postgres and real processes; Kafka where a test asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.webhooks.stack import QUICK, Receivers, Stack, receivers_running
from tests.servers import KafkaServer, PostgresServer


@pytest.fixture
async def receivers() -> AsyncIterator[Receivers]:
    """On loopback, answering 204 until told otherwise."""
    async with receivers_running() as made:
        yield made


@pytest.fixture
async def stack(postgres_server: PostgresServer) -> AsyncIterator[Stack]:
    """Migrated, nothing running, retries within a second. No broker."""
    made = Stack(postgres_server, extra=dict(QUICK))
    try:
        await made.migrate()
        yield made
    finally:
        made.stop()


@pytest.fixture
async def kafka_stack(postgres_server: PostgresServer, kafka_server: KafkaServer) -> AsyncIterator[Stack]:
    """Migrated, with its topics."""
    made = Stack(postgres_server, kafka_server.bootstrap, extra=dict(QUICK))
    try:
        await made.migrate()
        await made.create_topics()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def running(postgres_server: PostgresServer) -> Iterator[Stack]:
    """The API alone, shared by the tests that break nothing: each uses event ids of its own."""
    made = Stack(postgres_server)

    async def begin() -> None:
        await made.migrate()
        await made.start("api")

    try:
        asyncio.run(begin())
        yield made
    finally:
        made.stop()
