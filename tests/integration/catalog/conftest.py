"""An API for all tests of it; each uses SKUs and imports of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.integration.catalog.stack import Stack
from tests.servers import PostgresServer


@pytest.fixture(scope="session")
def running(postgres_server: PostgresServer) -> Iterator[Stack]:
    """The API alone, with small portions, so that a test of a few lines has several."""
    made = Stack(postgres_server, extra={"CATALOG_IMPORT_PORTION": "10", "CATALOG_IMPORT_BAD_LINES": "50"})

    async def begin() -> None:
        await made.migrate()
        await made.tree()
        await made.start("api")

    try:
        asyncio.run(begin())
        yield made
    finally:
        made.stop()
