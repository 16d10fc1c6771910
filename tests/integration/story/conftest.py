"""All systems, started once; each test tells a story of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.integration.story.stack import StoryStack
from tests.servers import ConnectServer, KafkaServer, PostgresServer, SearchServer


@pytest.fixture(scope="session")
def house(
    postgres_server: PostgresServer,
    kafka_server: KafkaServer,
    search_server: SearchServer,
    connect_server: ConnectServer,
) -> Iterator[StoryStack]:
    """Ready to be told a story in."""
    made = StoryStack(postgres_server, kafka_server.bootstrap, search=search_server, connect=connect_server)
    try:
        asyncio.run(made.begin())
        yield made
    finally:
        made.stop()
        asyncio.run(made.drop_indices())
