"""An engine that finds what it is told to, counts its calls, and fails or waits when it is asked to. And the API on top of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from fastapi import FastAPI
from starlette.types import Message, Scope

from services.kit.http import Shell
from services.kit.settings import ProcessSettings
from services.search.app import create_app
from services.search.engine import EngineError, Found, Hit, Hits, Json, NotThere, Total
from services.search.settings import ApiSettings

INDEX = "products-v1-20260101t000000000"
NEXT_INDEX = "products-v1-20260102t000000000"
KEY = "a-key-for-tests-only"


def source(number: int, **changes: Any) -> dict[str, Any]:
    """A document."""
    return {
        "id": str(UUID(int=number)), "sku": f"LAM-{number}", "title": f"Castou lamp {number}", "language": "en",
        "title_en": f"Castou lamp {number}", "description_en": "It <b>shines</b>.", "brand": "Castou", "brand_id": 1,
        "category": "home/lighting", "categories": ["home", "home/lighting"], "attributes": ["colour=red"],
        "model": "X1", "price": 100 * number, "currency": "EUR", "stock": 1, "in_stock": True, "popularity": number,
        "created_at": "2026-01-01T00:00:00.000+00:00", "number": {"weight": [number]},
    } | changes  # fmt: skip


@dataclass
class FakeEngine:
    """Every search of hits finds `documents`, in their order, a page of them."""

    documents: list[dict[str, Any]] = field(default_factory=lambda: [source(number) for number in range(1, 31)])
    indices: tuple[str, ...] = (INDEX,)
    error: EngineError | None = None
    partial: bool = False
    gate: asyncio.Event | None = None
    searches: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    suggest: dict[str, Any] = field(default_factory=dict)
    scored: bool = True

    async def __aenter__(self) -> FakeEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @property
    def hit_searches(self) -> list[dict[str, Any]]:
        """Bodies of the searches for hits."""
        return [body for _, body in self.searches if body.get("size") and "aggs" not in body]

    @property
    def facet_searches(self) -> list[dict[str, Any]]:
        return [body for _, body in self.searches if "aggs" in body]

    async def aliases(self, alias: str) -> tuple[str, ...]:
        assert alias == "products"
        return self.indices

    async def search(self, index: str, body: Json, *, within: float | None = None) -> Found:
        self.searches.append((index, msgspec.json.decode(msgspec.json.encode(body))))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if index not in (*self.indices, "products"):
            raise NotThere("no such index", "index_not_found_exception")
        return self.found(index, body)

    async def msearch(self, searches: Sequence[tuple[str, Json]], *, within: float | None = None) -> list[Found]:
        return [await self.search(index, body) for index, body in searches]

    def found(self, index: str, body: Mapping[str, Any]) -> Found:
        """What this search finds."""
        if "aggs" in body:
            return Found(1, self.partial, Hits(), aggregations=dict(_counted(body["aggs"], self.documents)))
        after = body.get("search_after")
        begin = int(after[-1]) + 1 if after else 0
        hits = [
            Hit(each["id"], index, 1.0, each, sort=[1.0, str(place)])
            for place, each in enumerate(self.documents)
            if place >= begin
        ][: body["size"]]
        total = Total(len(self.documents)) if body.get("track_total_hits") else None
        return Found(1, self.partial, Hits(hits, total), suggest=self.suggest)


def _counted(wanted: Mapping[str, Any], documents: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for name, aggregation in wanted.items():
        inner = aggregation.get("aggs", {}).get("values", aggregation)
        if "range" in inner:
            buckets: list[dict[str, Any]] = [
                {"from": float(each["from"]), **({"to": float(each["to"])} if "to" in each else {}), "doc_count": 1}
                for each in inner["range"]["ranges"]
            ]
        else:
            buckets = _buckets(documents, inner["terms"]["field"])
        answer = {"buckets": buckets}
        yield name, answer if inner is aggregation else {"doc_count": len(documents), "values": answer}


def _buckets(documents: list[dict[str, Any]], field_name: str) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    for each in documents:
        value = each[field_name]
        for one in value if isinstance(value, list) else [value]:
            counts[str(one).lower() if isinstance(one, bool) else str(one)] = counts.get(str(one), 0) + 1
    return [{"key": key, "doc_count": count} for key, count in sorted(counts.items())]


async def soon(condition: Callable[[], object]) -> None:
    """Give others turns until it holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def turns(count: int = 60) -> None:
    """Let others go on as far as they can."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class HandClock:
    """Moves when it is told to."""

    seconds: float = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_767_225_600 + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Api:
    """The application, running."""

    app: FastAPI
    engine: FakeEngine
    clock: HandClock

    async def get(self, path: str, query: str | bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request straight through the ASGI interface; `query` as it stands on the wire."""
        raw = query.encode() if isinstance(query, str) else query
        scope: Scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
            "raw_path": path.encode(), "query_string": raw, "root_path": "", "scheme": "http",
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        sent: list[Message] = []
        over = asyncio.Event()
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await Shell(self.app, max_body_bytes=1024)(scope, receive, send)
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], head, b"".join(each.get("body", b"") for each in sent[1:]))

    async def search(self, query: str = "", **headers: str) -> Any:
        """The answer's JSON; it must be 200."""
        answer = await self.get("/v1/search", query, headers)
        assert answer.status == 200, answer.body
        return answer.json


@asynccontextmanager
async def api_running(engine: FakeEngine | None = None, **settings: Any) -> AsyncIterator[Api]:
    """Ready, with what is popular known; its loops look again only after an hour."""
    asked = engine or FakeEngine()
    clock = HandClock()
    chosen = {
        "engine_urls": ("http://127.0.0.1:1",), "cursor_key": KEY, "alias_seconds": 60, "popular_seconds": 3600,
        "client_rate": 1000, "client_burst": 10_000, "deadline_seconds": 5,
    }  # fmt: skip
    app, _ = create_app(
        ProcessSettings(http_port=1), ApiSettings.model_validate(chosen | settings), clock=clock, engine=asked
    )
    async with app.router.lifespan_context(app):
        api = Api(app, asked, clock)
        if asked.indices and asked.error is None:
            await soon(lambda: len(asked.searches) >= 2)
        await turns(20)
        asked.searches.clear()
        yield api
