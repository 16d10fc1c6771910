"""A generated catalogue in a real Postgres: whole, once, and resumed after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest

from services.catalog import migrate
from services.catalog.fill import fill
from services.catalog.generate import product, products
from services.catalog.settings import MigrateSettings
from services.catalog.store import bulk
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration

SEED = 3


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"catalog_{uuid4().hex[:8]}"
    app = postgres_server.url(name, "catalog_app", "lab-only-test")
    migrate.run(MigrateSettings(database_url=app, admin_database_url=postgres_server.url(name)))  # type: ignore[arg-type]  # pydantic wraps it
    yield app
    asyncio.run(_drop(postgres_server, name))


async def _drop(server: PostgresServer, name: str) -> None:
    connection = await asyncpg.connect(server.admin_url)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def reader(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


def quiet(there: int, wanted: int) -> None:
    """No progress."""


async def test_every_product_is_there_as_it_was_generated(url: str, reader: asyncpg.Connection[asyncpg.Record]) -> None:
    assert await fill(url, SEED, 1_200, quiet) == 1_200
    rows = await reader.fetch("SELECT id, sku, title, stock FROM products ORDER BY id")
    made = list(products(SEED, 1_200))
    assert [tuple(row) for row in rows] == [(each.id, each.sku, each.title, each.stock) for each in made]
    assert await reader.fetchval("SELECT count(*) FROM variants") == sum(len(each.variants) for each in made)


async def test_a_second_fill_writes_only_what_is_missing(url: str) -> None:
    assert await fill(url, SEED, 300, quiet) == 300
    assert await fill(url, SEED, 300, quiet) == 0
    assert await fill(url, SEED, 200, quiet) == 0
    assert await fill(url, SEED, 450, quiet) == 150


async def test_a_fill_that_was_cut_goes_on_without_gap_or_double(
    url: str, reader: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.catalog.fill.PORTION", 100)

    class Cut(Exception):
        pass

    def cut(there: int, wanted: int) -> None:
        if there == 300:
            raise Cut

    with pytest.raises(Cut):
        await fill(url, SEED, 1_000, cut)
    assert await reader.fetchval("SELECT count(*) FROM products") == 300
    assert await fill(url, SEED, 1_000, quiet) == 700
    ids = [row["id"] for row in await reader.fetch("SELECT id FROM products ORDER BY id")]
    assert ids == [product(SEED, number).id for number in range(1_000)]


async def test_two_seeds_are_not_mixed(url: str) -> None:
    await fill(url, SEED, 10, quiet)
    with pytest.raises(bulk.OtherFill, match="seed 3"):
        await fill(url, SEED + 1, 10, quiet)


async def test_of_two_fills_at_once_one_is_told_so(url: str, reader: asyncpg.Connection[asyncpg.Record]) -> None:
    await bulk.begin(reader, SEED, 100)
    await bulk.write_tree(reader, [], [])
    assert await fill(url, SEED, 100, quiet) == 100
    with pytest.raises(bulk.OtherFill, match="Somebody else"):
        await bulk.write_portion(reader, SEED, 0, list(products(SEED, 10)))
    assert await reader.fetchval("SELECT count(*) FROM products") == 100
