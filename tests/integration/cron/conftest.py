"""A stack a test: real Postgres and real processes; Kafka and Redis where a test asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.integration.cron.stack import Stack
from tests.servers import KafkaServer, PostgresServer, RedisServer


@asynccontextmanager
async def _prepared(stack: Stack) -> AsyncIterator[Stack]:
    try:
        await stack.migrate()
        await stack.target.start()
        yield stack
    finally:
        await stack.target.stop()
        stack.stop()


@pytest.fixture
async def stack(postgres_server: PostgresServer) -> AsyncIterator[Stack]:
    """Migrated, the target listening, nothing else running. No broker."""
    async with _prepared(Stack(postgres_server)) as made:
        yield made


@pytest.fixture
async def kafka_stack(postgres_server: PostgresServer, kafka_server: KafkaServer) -> AsyncIterator[Stack]:
    """With a broker."""
    async with _prepared(Stack(postgres_server, kafka_server.bootstrap)) as made:
        yield made


@pytest.fixture
async def redis_stack(postgres_server: PostgresServer, redis_server: RedisServer) -> AsyncIterator[Stack]:
    """With the lease in Redis."""
    made = Stack(postgres_server, redis_url=redis_server.url, extra={"CRON_LEASE_STORE": "redis"})
    async with _prepared(made):
        yield made
