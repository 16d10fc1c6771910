"""The search API on a real engine, inside the test's own process: an index of products of one's own, filled without a pipeline."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from services.catalog import generate
from services.kit import ids
from services.kit.settings import ProcessSettings
from services.search import mappings
from services.search.app import create_app
from services.search.documents import ProductRow, VariantRow, document, encoded
from services.search.engine import Engine, Write
from services.search.indices import Indices
from services.search.settings import ApiSettings
from tests.stack import until
from tests.unit.search.fake_engine import KEY, Api, FakeEngine, HandClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def generated(seed: int, count: int) -> Iterator[ProductRow]:
    """Products of the catalogue's generator, with what belongs to them."""
    paths = {each.id: each for each in generate.categories()}
    by_path = {each.path: each for each in paths.values()}
    brands = {each.id: each.name for each in generate.brands()}
    for each in generate.products(seed, count):
        path = paths[each.category].path
        above = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
        yield ProductRow(
            id=each.id, sku=each.sku, title=each.title, description=each.description, language=each.language.value,
            brand_id=each.brand, brand=brands[each.brand], path=path,
            category_names=tuple(by_path[one].names[each.language] for one in above), model=each.model,
            attributes=dict(each.attributes), price=each.price, currency=each.currency, stock=each.stock,
            popularity=each.popularity, created_at=each.created_at,
            variants=tuple(VariantRow(one.sku, dict(one.attributes), one.price, one.stock) for one in each.variants),
        )  # fmt: skip


def product(number: int, title: str, **changes: Any) -> ProductRow:
    """A hand-made one."""
    given: dict[str, Any] = {
        "id": UUID(int=number), "sku": f"HAND-{number:05}", "title": title, "description": "", "language": "en",
        "brand_id": 1, "brand": "Castou", "path": "home/things", "category_names": ("Home", "Things"), "model": "",
        "attributes": {}, "price": 1000, "currency": "EUR", "stock": 5, "popularity": 0, "created_at": NOW,
    }  # fmt: skip
    return ProductRow(**(given | changes))


class Server(Protocol):
    """An engine, wherever it is from."""

    @property
    def url(self) -> str: ...


@dataclass
class Catalogue:
    """An index that an API may be run on."""

    server: Server
    prefix: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}_")
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def fill(self, rows: Sequence[ProductRow], *, version: int = 1) -> None:
        """Put these products into the index that queries read, which is made if there is none."""
        async with Engine([self.server.url], timeout=60) as engine:
            index = await Indices(engine, self.prefix).install(datetime.now(UTC))
            documents = [document(row) for row in rows]
            self.sources |= {each["id"]: each for each in documents}
            fields = mappings.load().fields
            for place in range(0, len(documents), 1000):
                writes = [
                    Write(index, each["id"], version, encoded(each, fields)) for each in documents[place : place + 1000]
                ]
                written = await engine.bulk(writes)
                assert {each.fate.value for each in written} == {"done"}, written
            await engine.refresh(index)

    async def swap(self) -> str:
        """Have a copy of the same products, queried from now on; the old index stays. The new one's name."""
        async with Engine([self.server.url], timeout=60) as engine:
            indices = Indices(engine, self.prefix)
            name = indices.name(1, datetime.now(UTC))
            await indices.create_for_copy(name, mappings.load())
            fields = mappings.load().fields
            await engine.bulk([Write(name, each["id"], 1, encoded(each, fields)) for each in self.sources.values()])
            await indices.open_for_queries(name)
            await indices.swap(name)
            return name

    @asynccontextmanager
    async def api(self, **settings: Any) -> AsyncIterator[Api]:
        """Running on it."""
        clock = HandClock()
        clock.seconds = 0.0
        chosen: Mapping[str, Any] = {
            "engine_urls": (self.server.url,), "cursor_key": KEY, "alias_seconds": 0.05, "deadline_seconds": 30,
            "deadline_limit_seconds": 60, "engine_timeout_seconds": 30, "client_rate": 10_000, "client_burst": 100_000,
            "engine_slots": 64, "queue_seconds": 10,
        }  # fmt: skip
        process = ProcessSettings(http_port=1, lab_prefix=self.prefix)
        app, _ = create_app(process, ApiSettings.model_validate({**chosen, **settings}), clock=clock)
        async with app.router.lifespan_context(app):
            running = Api(app, FakeEngine(), clock)

            async def ready() -> bool:
                return (await running.get("/health/ready")).status == 200

            await until(ready)
            yield running


def titles(answer: Mapping[str, Any]) -> list[str]:
    return [each["title"] for each in answer["hits"]]


def numbers(answer: Mapping[str, Any]) -> list[int]:
    """Of hand-made products."""
    found = (ids.decode("prd", each["id"]) for each in answer["hits"])
    return [each.int for each in found if each is not None]
