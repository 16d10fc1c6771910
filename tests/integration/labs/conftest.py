"""The throwaway servers as the engine's evidence and clean-up see them."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from labs.engine.evidence import Stores
from tests.servers import KafkaServer, PostgresServer


@pytest.fixture
def stores(postgres_server: PostgresServer, kafka_server: KafkaServer) -> Stores:
    """No search engine, and nobody listens where Prometheus is said to be."""
    url = urlsplit(postgres_server.admin_url)
    host, _, port = kafka_server.bootstrap.partition(":")
    return Stores(("127.0.0.1", url.port or 0), url.password or "", (host, int(port)), ("127.0.0.1", 9))
