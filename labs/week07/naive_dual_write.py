"""A catalogue with search as most people would write it first: the handler writes Postgres, then the engine.

The schema of the database is that of services/catalog. A change of the index's schema: delete, create, fill.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from labs.week07.naive_engine import (
    COLUMNS,
    MAPPING,
    Row,
    call,
    document,
    found_by,
    lines,
    offered,
    product_of,
    shown,
)
from services.kit import ids
from services.kit.errors import Problem
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.settings import ProcessSettings, load

log = logging.getLogger(__name__)

PAGE = 100
PORTION = 1000
TIMEOUT = aiohttp.ClientTimeout(total=2)
PATIENT = aiohttp.ClientTimeout(total=60)
"""For filling the whole index."""


class NewProduct(msgspec.Struct):
    sku: str
    title: str
    language: str
    brand_id: int
    category_id: int
    price: int
    currency: str
    stock: int


class Change(msgspec.Struct):
    title: str | None = None
    price: int | None = None
    stock: int | None = None


class Offer(msgspec.Struct):
    sku: str
    price: int | None = None
    stock: int | None = None


class Offers(msgspec.Struct):
    offers: list[Offer]


class Catalog:
    def __init__(self, db: asyncpg.Pool[Row], engine: aiohttp.ClientSession, index: str) -> None:
        self.db, self.engine, self.index = db, engine, index

    async def fill(self) -> None:
        """All products, from the first to the last."""
        await call(self.engine, "PUT", f"/{self.index}", MAPPING, within=PATIENT)
        after = UUID(int=0)
        query = f"SELECT {COLUMNS} FROM products p WHERE p.id > $1 ORDER BY p.id LIMIT {PORTION}"
        while rows := await self.db.fetch(query, after):
            await call(self.engine, "POST", f"/{self.index}/_bulk", lines(rows), within=PATIENT)
            after = rows[-1]["id"]
        await call(self.engine, "POST", f"/{self.index}/_refresh", within=PATIENT)

    async def index_product(self, row: Row) -> None:
        try:
            await call(self.engine, "PUT", f"/{self.index}/_doc/{row['id']}", document(row))
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("not indexed", extra={"product": str(row["id"]), "error": type(error).__name__})

    async def index_products(self, rows: list[Row]) -> None:
        try:
            await call(self.engine, "POST", f"/{self.index}/_bulk", lines(rows))
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("not indexed", extra={"products": len(rows), "error": type(error).__name__})

    async def forget_product(self, product: UUID) -> None:
        try:
            await call(self.engine, "DELETE", f"/{self.index}/_doc/{product}")
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("not deleted", extra={"product": str(product), "error": type(error).__name__})


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url, index = os.environ["NAIVE_DATABASE_URL"], f"{process.lab_prefix}products"
    engine = aiohttp.ClientSession(os.environ["NAIVE_ENGINE_URL"], timeout=TIMEOUT)
    async with asyncpg.create_pool(url) as db, engine:
        app.state.catalog = Catalog(db, engine, index)
        async with engine.head(f"/{index}") as there:
            missing = there.status == 404
        if missing:
            await app.state.catalog.fill()
        yield


process = load(ProcessSettings)
app = service_app("week07-day2-naive", process, lifespan=lifespan)


def catalog_of(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog
    return catalog


@app.get("/v1/products")
async def listing(request: Request) -> Response:
    before = product_of(request.query_params.get("cursor", "")) or UUID(int=(1 << 128) - 1)
    query = f"SELECT {COLUMNS} FROM products p WHERE p.id < $1 ORDER BY p.id DESC LIMIT {PAGE}"
    rows = await catalog_of(request).db.fetch(query, before)
    data = [shown(row) for row in rows]
    return json_response(200, {"data": data, "next_cursor": data[-1]["id"] if len(data) == PAGE else None})


@app.post("/v1/products")
async def create(request: Request) -> Response:
    catalog, new = catalog_of(request), await read_json(request, NewProduct)
    await catalog.db.execute(
        "INSERT INTO products (id, sku, title, description, language, brand_id, category_id, model, attributes, price,"
        " currency, stock, popularity, created_at) VALUES ($1, $2, $3, '', $4, $5, $6, '', '{}', $7, $8, $9, 0, now())"
        " ON CONFLICT (sku) DO NOTHING",
        ids.uuid7(), new.sku, new.title, new.language, new.brand_id, new.category_id, new.price, new.currency, new.stock,
    )  # fmt: skip
    row = await catalog.db.fetchrow(f"SELECT {COLUMNS} FROM products p WHERE p.sku = $1", new.sku)
    assert row is not None
    await catalog.index_product(row)
    return json_response(201, shown(row))


async def change(request: Request, product_id: str) -> Response:
    catalog, wanted, product = catalog_of(request), await read_json(request, Change), product_of(product_id)
    row = await catalog.db.fetchrow(
        "UPDATE products p SET title = coalesce($2, title), price = coalesce($3, price), stock = coalesce($4, stock),"
        f" version = version + 1, updated_at = clock_timestamp() WHERE p.id = $1 RETURNING {COLUMNS}",
        product, wanted.title, wanted.price, wanted.stock,
    )  # fmt: skip
    if row is None:
        raise Problem(404, "no_such_product", "There is no such product")
    await catalog.index_product(row)
    return json_response(200, shown(row))


@app.patch("/v1/products/{product_id}")
async def patch(product_id: str, request: Request) -> Response:
    return await change(request, product_id)


@app.put("/v1/products/{product_id}/{part}")
async def put(product_id: str, part: str, request: Request) -> Response:
    del part
    return await change(request, product_id)


@app.post("/v1/offers")
async def offers(request: Request) -> Response:
    """A feed's prices and stocks: one commit, then one bulk request."""
    catalog, given = catalog_of(request), (await read_json(request, Offers)).offers
    rows = await catalog.db.fetch(
        "WITH held AS (SELECT id FROM products WHERE sku = ANY($1::text[]) ORDER BY id FOR UPDATE)"
        " UPDATE products p SET price = coalesce(offer.price, p.price), stock = coalesce(offer.stock, p.stock),"
        " version = version + 1, updated_at = clock_timestamp()"
        " FROM held, unnest($1::text[], $2::bigint[], $3::bigint[]) AS offer(sku, price, stock)"
        f" WHERE p.id = held.id AND p.sku = offer.sku RETURNING {COLUMNS}",
        [one.sku for one in given], [one.price for one in given], [one.stock for one in given],
    )  # fmt: skip
    if rows:
        await catalog.index_products(rows)
    found = {row["sku"]: row for row in rows}
    return json_response(200, {"offers": [offered(one.sku, found.get(one.sku)) for one in given]})


@app.delete("/v1/products/{product_id}")
async def delete(product_id: str, request: Request) -> Response:
    catalog, product = catalog_of(request), product_of(product_id)
    if product is None or await catalog.db.execute("DELETE FROM products WHERE id = $1", product) == "DELETE 0":
        raise Problem(404, "no_such_product", "There is no such product")
    await catalog.forget_product(product)
    return Response(status_code=204)


@app.get("/v1/search")
async def search(request: Request) -> Response:
    catalog = catalog_of(request)
    try:
        found = await call(
            catalog.engine, "POST", f"/{catalog.index}/_search", found_by(request.query_params.get("q", ""))
        )
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Problem(502, "engine_failed", "The search engine does not answer", detail=type(error).__name__) from None
    hits = found["hits"]
    assert isinstance(hits, dict)
    return json_response(200, {"hits": [hit["_source"] for hit in hits["hits"]]})


@app.post("/v1/reindex")
async def reindex(request: Request) -> Response:
    """The new schema: the old index goes, the new one comes."""
    catalog = catalog_of(request)
    await call(catalog.engine, "DELETE", f"/{catalog.index}", within=PATIENT)
    await catalog.fill()
    return json_response(200, {"index": catalog.index})


if __name__ == "__main__":
    serve(app, process, name="week07-day2-naive")
