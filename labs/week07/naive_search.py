"""A search API as most people would write it first: ask the engine, hand the answer on.

No cache, no limit, no deadline, one node's address. With NAIVE_CACHE_SECONDS it has the first cache that one would write: by
the query's text, emptied when another index takes over, filled by whoever misses. `PUT /v1/documents/{id}` puts a document into the index, for day 5.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp
import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from labs.week07.naive_engine import call
from services.kit.errors import Problem
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.settings import ProcessSettings, load

NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
FACETS = {
    "brands": {"terms": {"field": "brand"}},
    "categories": {"terms": {"field": "categories"}},
    "attributes": {"terms": {"field": "attributes", "size": 50}},
    "prices": {"histogram": {"field": "price", "interval": 5000}},
}
TEXT = ("title^3", "title_en", "title_de", "title_fr", "title_es", "brand.text^2", "model^2", "category_text")


class NewDocument(msgspec.Struct):
    version: int
    title: str


def asked(text: str) -> dict[str, object]:
    """All that the page shows, each time. A star searches in the middle of words, which a user asked for once."""
    if "*" in text:
        query: dict[str, object] = {"query_string": {"query": text, "fields": ["title"], "analyze_wildcard": True}}
    else:
        query = {"multi_match": {"query": text, "fields": list(TEXT)}}
    return {
        "query": query,
        "size": 20,
        "aggs": FACETS,
        "highlight": {"fields": {"title": {}}},
        "track_total_hits": True,
    }


class Search:
    def __init__(self, engine: aiohttp.ClientSession, index: str, cached_seconds: float) -> None:
        self.engine, self.index, self.cached_seconds = engine, index, cached_seconds
        self.cache: dict[str, tuple[float, bytes]] = {}
        self.looked_at, self.behind = 0.0, ""

    async def look(self) -> None:
        """Each second: which index is behind the alias? The answers of another one are old."""
        if monotonic() < self.looked_at + 1:
            return
        self.looked_at = monotonic()
        behind = ",".join(sorted(await call(self.engine, "GET", f"/_alias/{self.index}")))
        if behind != self.behind:
            self.behind, self.cache = behind, {}

    async def find(self, text: str) -> tuple[bytes, str]:
        """The answer, and what the cache had."""
        if self.cached_seconds:
            await self.look()
        kept = self.cache.get(text)
        if kept is not None and monotonic() < kept[0] + self.cached_seconds:
            return kept[1], "hit"
        found = await call(self.engine, "POST", f"/{self.index}/_search", asked(text))
        hits = found["hits"]
        assert isinstance(hits, dict)
        answer = msgspec.json.encode(
            {"hits": [hit["_source"] for hit in hits["hits"]], "facets": found["aggregations"], "total": hits["total"]}
        )
        if self.cached_seconds:
            self.cache[text] = (monotonic(), answer)
        return answer, "miss"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(os.environ["NAIVE_ENGINE_URL"], timeout=NO_TIMEOUT, connector=connector) as engine:
        seconds = float(os.environ.get("NAIVE_CACHE_SECONDS") or 0)
        app.state.search = Search(engine, f"{process.lab_prefix}products", seconds)
        yield


process = load(ProcessSettings)
app = service_app("week07-naive-search", process, lifespan=lifespan)


@app.get("/v1/search")
async def search(request: Request) -> Response:
    try:
        body, cache = await request.app.state.search.find(request.query_params.get("q", ""))
    except aiohttp.ClientError as error:
        raise Problem(502, "engine_failed", "The search engine does not answer", detail=type(error).__name__) from None
    return Response(body, headers={"X-Cache": cache}, media_type="application/json")


@app.put("/v1/documents/{document_id}")
async def put_document(document_id: str, request: Request) -> Response:
    new = await read_json(request, NewDocument)
    search: Search = request.app.state.search
    path = f"/{search.index}/_doc/{document_id}?version={new.version}&version_type=external_gte"
    try:
        await call(search.engine, "PUT", path, {"id": document_id, "title": new.title})
    except aiohttp.ClientError as error:
        raise Problem(502, "engine_failed", "The search engine does not answer", detail=type(error).__name__) from None
    return json_response(200, {"id": document_id, "version": new.version})


if __name__ == "__main__":
    serve(app, process, name="week07-naive-search")
