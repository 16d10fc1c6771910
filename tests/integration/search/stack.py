"""Search as real processes, on a catalogue, topics and indices of its own. What Debezium would tell, the test tells."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec

from services.catalog import migrate as catalog_migrate
from services.catalog.domain import Product
from services.catalog.fill import fill
from services.catalog.generate import product as generated
from services.catalog.settings import MigrateSettings as CatalogMigrateSettings
from services.contracts import topics
from services.kit import kafka
from services.kit.clock import SystemClock
from services.search.engine import Engine
from services.search.indices import Indices, Shape
from tests.databases import Copied, copy
from tests.records import everything
from tests.servers import SESSION_SECONDS, SearchServer
from tests.stack import Process, ServiceStack, client, launch, until

__all__ = ["Process", "Stack", "client", "until"]

SEED = 5


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    code: int
    said: str


@dataclass
class Stack(ServiceStack):
    """Roles `indexer` and `canary`; commands by `command`."""

    service: ClassVar[str] = "search"
    fixed: ClassVar[tuple[str, ...]] = ("indexer",)

    search: SearchServer | None = None
    partitions: dict[UUID, int] = field(default_factory=dict)

    @property
    def engine_url(self) -> str:
        assert self.search is not None
        return self.search.url

    @property
    def reader_url(self) -> str:
        return self.postgres.url(f"{self.prefix}catalog", "catalog_reader", "lab-only-test")

    @property
    def catalog_app_url(self) -> str:
        return self.postgres.url(f"{self.prefix}catalog", "catalog_app", "lab-only-test")

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "SEARCH_ENGINE_URLS": self.engine_url,
            "SEARCH_CATALOG_DATABASE_URL": self.reader_url,
            "SEARCH_CANARY_DATABASE_URL": self.catalog_app_url,
            "SEARCH_INDEX_REPLICAS": "0",
            "SEARCH_PORTION": "50",
            "SEARCH_INDEXER_BATCH": "50",
            "SEARCH_SESSION_SECONDS": SESSION_SECONDS,
            "SEARCH_AUDIT_PORTION": "50",
            "SEARCH_AUDIT_SETTLE_SECONDS": "0.3",
            **self.extra,
        }

    async def migrate_all(self) -> None:
        """Both databases, and the first index."""
        name, template = f"{self.prefix}catalog", "migrated_catalog_for_search"
        copied = await copy(self.postgres, template, name, self.catalog_app_url, self.reader_url)
        if copied is not Copied.DONE:
            settings = CatalogMigrateSettings(
                database_url=self.catalog_app_url,  # type: ignore[arg-type]  # pydantic wraps it
                reader_database_url=self.reader_url,  # type: ignore[arg-type]  # pydantic wraps it
                admin_database_url=self.postgres.url(name),  # type: ignore[arg-type]  # pydantic wraps it
            )
            await asyncio.to_thread(catalog_migrate.run, settings)
        if copied is Copied.NO_SOURCE:
            await copy(self.postgres, name, template)
        await self.migrate()

    async def migrate(self) -> None:
        """The database, and an index of this stack's own."""
        await super().migrate()
        async with self.engine() as engine:
            name = await Indices(engine, self.prefix, Shape(replicas=0)).install(SystemClock().now())
            await engine.health(name, wait_for="yellow")

    async def fill(self, products: int) -> None:
        """The first products of the generated catalogue, told to nobody."""
        await fill(self.catalog_app_url, SEED, products, lambda _, __: None)

    async def catalog(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return await self.sql(statement, *arguments, database="catalog")

    async def change(self, product: UUID, statement: str, *arguments: Any, op: str = "u", times: int = 1) -> int:
        """Commit a change of the catalogue and tell it as Debezium does; its transaction."""
        db = await asyncpg.connect(self.postgres.url(f"{self.prefix}catalog"))
        try:
            async with db.transaction():
                await db.execute(statement, product, *arguments)
                xid = int(await db.fetchval("SELECT pg_current_xact_id()::text"))
        finally:
            await db.close()
        await self.tell([(product, xid, op)] * times)
        return xid

    async def price(self, product: UUID, price: int, times: int = 1) -> int:
        return await self.change(product, "UPDATE products SET price = $2 WHERE id = $1", price, times=times)

    async def delete(self, product: UUID) -> int:
        return await self.change(product, "DELETE FROM products WHERE id = $1", op="d")

    async def tell(self, changes: Sequence[tuple[UUID, int, str]]) -> None:
        """Records of `catalog.product-changes.v1`; after a delete its tombstone."""
        records: list[tuple[bytes | None, bytes | None]] = []
        for product, xid, op in changes:
            body = {"op": op, "source": {"table": "products", "lsn": 1, "txId": xid}, "before": None, "after": None}
            records.append((str(product).encode(), msgspec.json.encode(body)))
            if op == "d":
                records.append((str(product).encode(), None))
        await self.send(topics.CATALOG_PRODUCT_CHANGES.name, records)

    async def tell_everything(self) -> None:
        """What a snapshot of Debezium would tell."""
        rows = await self.catalog("SELECT id FROM products")
        await self.tell([(row["id"], 3, "r") for row in rows])

    async def send(self, topic: str, records: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        async with kafka.running(kafka.producer(self.bootstrap, client_id="test")) as producer:
            sent = [await producer.send(self.prefix + topic, value=value, key=key) for key, value in records]
            await asyncio.gather(*sent)

    async def parked(self, topic: str = topics.CATALOG_PRODUCT_CHANGES_DLQ.name) -> list[dict[str, str]]:
        """Key and headers of everything in a dead letter topic."""
        found = []
        for each in await everything(self.bootstrap, self.prefix + topic):
            headers = {name: raw.decode("utf-8", "replace") for name, raw in each.headers}
            found.append({"key": (each.key or b"").decode("latin-1"), **headers})
        return found

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        async with Engine([self.engine_url], timeout=30) as made:
            yield made

    async def prices(self, index: str | None = None) -> dict[UUID, int]:
        """What an index (or what queries read) holds, refreshed first."""
        async with self.engine() as engine:
            name = index or f"{self.prefix}products"
            await engine.refresh(name)
            return {
                UUID(hit.id): hit.source["price"]
                async for hit in engine.scan(name, {"match_all": {}}, source=["price"])
            }

    async def truth(self) -> dict[UUID, int]:
        return {row["id"]: row["price"] for row in await self.catalog("SELECT id, price FROM products")}

    async def indexed(self, index: str | None = None, within: float = 60) -> None:
        """Wait until an index is as the database is."""

        async def same() -> bool:
            return await self.prices(index) == await self.truth()

        await until(same, within=within, what="index = database")

    async def reading(self) -> str:
        async with self.engine() as engine:
            name = await Indices(engine, self.prefix).reading()
        assert name is not None
        return name

    async def writing(self) -> tuple[str, ...]:
        async with self.engine() as engine:
            return await Indices(engine, self.prefix).writing()

    async def command(self, *words: str, environment: Mapping[str, str] | None = None) -> Ran:
        """`python -m services.search ...` to its end."""
        process, log = self.begin(*words, environment=environment)
        code = await asyncio.to_thread(process.wait, 120)
        return Ran(code, log.read_text())

    def begin(self, *words: str, environment: Mapping[str, str] | None = None) -> tuple[subprocess.Popen[bytes], Any]:
        """The same, still running; `stop` ends it if the test does not."""
        log = self.folder / f"command-{len(list(self.folder.iterdir()))}.log"
        process = launch(["services.search", *words], self.environment() | dict(environment or {}), log)
        self.processes.append(Process("command", 0, process, log))
        return process, log

    async def drop_indices(self) -> None:
        if self.search is None:
            return
        async with self.engine() as engine:
            for name in await engine.aliases(f"{self.prefix}products-write"):
                await engine.delete_index(name)


def some(number: int) -> Product:
    """A product of the generated catalogue."""
    return generated(SEED, number)
