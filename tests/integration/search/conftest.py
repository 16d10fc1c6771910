"""A stack a test: real Postgres, Kafka and engine, real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.elasticsearch import running_elasticsearch
from tests.integration.search.stack import Stack
from tests.servers import KafkaServer, PostgresServer, SearchServer


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[str]:
    """The address of an Elasticsearch 7.10.2: use indices of your own."""
    with running_elasticsearch() as url:
        yield url


@pytest.fixture
async def stack(
    postgres_server: PostgresServer, kafka_server: KafkaServer, search_server: SearchServer
) -> AsyncIterator[Stack]:
    """Migrated, with its topics and an empty index; nothing running."""
    made = Stack(postgres_server, kafka_server.bootstrap, search=search_server)
    try:
        await made.migrate_all()
        await made.create_topics()
        yield made
    finally:
        made.stop()
        await made.drop_indices()
