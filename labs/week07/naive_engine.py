"""What the naive programs of this week share: an index as one makes it at first, and plain calls of one node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

import aiohttp
import asyncpg
import msgspec

from services.kit import ids

PRODUCT = "prd"
FIELDS = ("sku", "title", "language", "model", "brand_id", "price", "currency", "stock", "popularity", "skus")
COLUMNS = """
p.id, p.sku, p.title, p.description, p.language, p.model, p.brand_id, p.category_id, p.price, p.currency, p.stock,
p.popularity, p.version, ARRAY(SELECT v.sku FROM variants v WHERE v.product_id = p.id ORDER BY v.sku) AS skus
"""
MAPPING = {
    "settings": {"index": {"number_of_shards": 1, "number_of_replicas": 0}},
    "mappings": {
        "properties": {
            "id": {"type": "keyword"},
            "title": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "description": {"type": "text"},
        }
    },
}
Row = asyncpg.Record


def document(row: Row) -> dict[str, object]:
    """A product as the index holds it."""
    return {"id": str(row["id"]), "description": row["description"], **{name: row[name] for name in FIELDS}}


def lines(rows: Iterable[Row]) -> bytes:
    """As `_bulk` takes them."""
    found = bytearray()
    for row in rows:
        found += msgspec.json.encode({"index": {"_id": str(row["id"])}}) + b"\n"
        found += msgspec.json.encode(document(row)) + b"\n"
    return bytes(found)


def found_by(text: str) -> Mapping[str, object]:
    """A query as one writes it at first: all the words in the text fields, with everything that the page shows."""
    return {
        "query": {"multi_match": {"query": text, "fields": ["title^2", "description"]}},
        "size": 20,
        "aggs": {"brands": {"terms": {"field": "brand_id"}}, "prices": {"stats": {"field": "price"}}},
        "highlight": {"fields": {"title": {}, "description": {}}},
    }


async def call(
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    body: object = None,
    *,
    within: aiohttp.ClientTimeout | None = None,
) -> dict[str, object]:
    """The engine's answer, within the session's bound or another one. Raises aiohttp.ClientError, TimeoutError."""
    data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
    kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
    bound = within or http.timeout
    async with http.request(method, path, data=data, headers={"Content-Type": kind}, timeout=bound) as answer:
        answer.raise_for_status()
        found: dict[str, object] = msgspec.json.decode(await answer.read())
        return found


def shown(row: Row) -> dict[str, object]:
    """A product as the API shows it."""
    view = {name: row[name] for name in FIELDS if name != "skus"}
    variants = [{"sku": sku} for sku in row["skus"]]
    own = {"id": ids.encode(PRODUCT, row["id"]), "category_id": row["category_id"], "version": row["version"]}
    return {**view, **own, "variants": variants}


def offered(sku: str, row: Row | None) -> dict[str, object]:
    """What became of a feed's offer."""
    if row is None:
        return {"sku": sku, "outcome": "no_such_sku", "id": None, "version": None}
    return {"sku": sku, "outcome": "changed", "id": ids.encode(PRODUCT, row["id"]), "version": row["version"]}


def product_of(text: str) -> UUID | None:
    """The product that an id at the edge names."""
    return ids.decode(PRODUCT, text)
