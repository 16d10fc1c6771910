"""The dual write of week 7, day 2, before a real Postgres and a real engine: right in calm weather, and what the checker sees else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest

from labs.engine.cleanup import drop, drop_indices, new_prefix
from labs.engine.clock import RunClock
from labs.engine.evidence import StoreEvidence, Stores
from labs.engine.model import EvidenceError, Finding, NotApplicableError, Status, Variant, VariantRole
from labs.invariants import search as s
from services.catalog import migrate
from services.catalog.fill import fill
from services.catalog.settings import MigrateSettings
from tests.integration.labs.program import running
from tests.servers import PostgresServer, SearchServer

pytestmark = [pytest.mark.integration]

PRODUCTS = 120
NEW = {"sku": "NEW-1", "title": "New", "language": "en", "brand_id": 1, "category_id": 20, "price": 5, "currency": "EUR", "stock": 1}  # fmt: skip


@dataclass
class Setting:
    """The program, its stores, and the checker's view of them."""

    url: str
    evidence: StoreEvidence
    database: str

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
        async with self.evidence.session.request(method, self.url + path, json=body) as answer:
            return answer.status, await answer.json() if answer.content_type == "application/json" else {}

    async def product(self) -> str:
        _, page = await self.ask("GET", "/v1/products")
        data = page["data"]
        assert isinstance(data, list)
        return str(next(one["id"] for one in data if not one["variants"]))

    async def judged(self) -> Finding:
        return await s.index_equals_database(self.evidence)

    async def sql(self, statement: str) -> None:
        await self.rows(statement)

    async def rows(self, statement: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database)
        found: list[asyncpg.Record] = await connection.fetch(statement)
        await connection.close()
        return found


def as_list(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value


def program(database: str, engine: str, prefix: str) -> AbstractContextManager[str]:
    module = "labs.week07.naive_dual_write"
    return running(module, LAB_PREFIX=prefix, NAIVE_DATABASE_URL=database, NAIVE_ENGINE_URL=engine)


@pytest.fixture
async def setting(postgres_server: PostgresServer, search_server: SearchServer) -> AsyncIterator[Setting]:
    """A catalogue of PRODUCTS products in both stores."""
    prefix = new_prefix()
    database = postgres_server.url(f"{prefix}catalog")
    app = postgres_server.url(f"{prefix}catalog", "catalog_app", "lab-only-test")
    settings = MigrateSettings(database_url=app, admin_database_url=database)  # type: ignore[arg-type]  # pydantic wraps them
    await asyncio.to_thread(migrate.run, settings)
    await fill(app, 1, PRODUCTS, lambda _, __: None)
    host, port = urlsplit(search_server.url).hostname or "", urlsplit(search_server.url).port or 0
    url = urlsplit(postgres_server.admin_url)
    stores = Stores(
        ("127.0.0.1", url.port or 0), url.password or "", ("127.0.0.1", 9), ("127.0.0.1", 9), lambda _: (host, port)
    )
    variant = Variant(role=VariantRole.ENGINEERED, roles={"sut": "naive"}, processes=("naive",))
    async with aiohttp.ClientSession(trust_env=False) as session:
        evidence = StoreEvidence("main", "naive", variant, (), (), prefix, stores, RunClock(), session)
        with program(database, search_server.url, prefix) as address:
            yield Setting(address, evidence, database)
        assert await drop_indices(session, [(host, port)], prefix, None) == ""
    assert await drop(stores, prefix=prefix, topics=False) == ""


async def test_in_calm_weather_both_stores_agree_after_every_kind_of_change(setting: Setting) -> None:
    assert (await setting.judged()).status is Status.HELD
    product = await setting.product()
    assert (await setting.ask("PUT", f"/v1/products/{product}/price", {"price": 77}))[0] == 200
    assert (await setting.ask("PUT", f"/v1/products/{product}/stock", {"stock": 0}))[0] == 200
    assert (await setting.ask("PATCH", f"/v1/products/{product}", {"title": "Another"}))[0] == 200
    skus = [row["sku"] for row in await setting.rows("SELECT sku FROM products ORDER BY id LIMIT 3")]
    feed = [{"sku": sku, "price": 500 + n} for n, sku in enumerate((*skus, "nobody"))]
    status, told = await setting.ask("POST", "/v1/offers", {"offers": feed})
    assert (status, [one["outcome"] for one in as_list(told["offers"])]) == (200, ["changed"] * 3 + ["no_such_sku"])
    assert [row["price"] for row in await setting.rows("SELECT price FROM products ORDER BY id LIMIT 3")] == [
        500, 501, 502,
    ]  # fmt: skip
    status, made = await setting.ask("POST", "/v1/products", NEW)
    assert status == 201
    assert (await setting.judged()).status is Status.HELD
    assert (await setting.ask("DELETE", f"/v1/products/{made['id']}"))[0] == 204
    assert (await setting.ask("DELETE", f"/v1/products/{made['id']}"))[0] == 404
    assert (await setting.judged()).status is Status.HELD


async def test_the_checker_sees_each_kind_of_difference(setting: Setting) -> None:
    await setting.sql("UPDATE products SET price = price + 1 WHERE id = (SELECT id FROM products ORDER BY id LIMIT 1)")
    await setting.sql("DELETE FROM products WHERE id = (SELECT id FROM products ORDER BY id DESC LIMIT 1)")
    found = await setting.judged()
    assert (found.status, found.note) == (Status.BROKEN, "1 stale, 1 extra")
    assert "stale: price" in " ".join(found.offenders)
    behind = replace(setting.evidence, window=(0.0, 1e6))
    assert await s.still_behind(behind) == "1 of the last 119 changes are not in the index"


async def test_it_finds_what_it_indexed_and_a_new_schema_costs_queries(setting: Setting) -> None:
    _, found = await setting.ask("GET", "/v1/search?q=boots")
    assert isinstance(found["hits"], list)
    reindexing = asyncio.ensure_future(setting.ask("POST", "/v1/reindex"))
    statuses = set()
    while not reindexing.done():
        statuses.add((await setting.ask("GET", "/v1/search?q=boots"))[0])
    assert (await reindexing)[0] == 200
    assert 502 in statuses
    assert (await setting.judged()).status is Status.HELD


async def test_what_is_not_there_and_what_does_not_answer_are_told_apart(setting: Setting) -> None:
    with pytest.raises(NotApplicableError):
        await setting.evidence.engine("{prefix}nothing/_count")
    with pytest.raises(EvidenceError, match="refused"):
        await setting.evidence.engine("{prefix}products/_search", {"query": {"nonsense": {}}})
    gone = replace(setting.evidence, stores=replace(setting.evidence.stores, engine_at=lambda _: ("127.0.0.1", 9)))
    with pytest.raises(EvidenceError, match="no search engine answered"):
        await gone.engine("_cluster/health", nodes=("a", "b"))
