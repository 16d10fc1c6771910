"""Fixtures for all tests, and the order of their files."""

import gc
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.ordering import Recorder, read, slowest_first
from tests.servers import connect_server, kafka_server, postgres_server, redis_server, search_server
from tests.telling import Teller
from tests.workers import pytest_xdist_auto_num_workers

__all__ = [
    "connect_server",
    "kafka_server",
    "postgres_server",
    "pytest_xdist_auto_num_workers",
    "redis_server",
    "search_server",
]

# No example of a property test is too slow, since the machine may be; `make test-fast` draws fewer of them.
settings.register_profile("whole", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=25)
settings.load_profile("whole")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help="write tests/durations.json from this run")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(Teller(config))
    if config.getoption("--record-durations", default=False):
        config.pluginmanager.register(Recorder())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items[:] = slowest_first(items, read())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What thousands of collected tests are made of lives until the end: garbage collection looks at it neither before nor after."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
