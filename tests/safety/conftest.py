"""One city a test process, shared by the tests that break nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.safety.apps import APPS
from tests.safety.canaries import collecting
from tests.safety.city import City, Edge
from tests.servers import PostgresServer


@pytest.fixture(scope="session")
def city(postgres_server: PostgresServer) -> Iterator[City]:
    """Empty at first."""
    with collecting() as collector:
        made = City(postgres_server, collector)
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def edge(request: pytest.FixtureRequest, city: City, service: str) -> Edge:
    """The running service that the test names by its parameter `service`."""
    return city.edge(service, request.getfixturevalue)


@pytest.fixture
def edges(request: pytest.FixtureRequest, city: City) -> list[Edge]:
    """All services, running."""
    return [city.edge(service, request.getfixturevalue) for service in APPS]
