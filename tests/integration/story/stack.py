"""Every process that a checkout goes through, and what the story asks of a running stack."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.native.free_ports import free_ports
from services.search.engine import Engine
from tests.integration.payments.stack import BANK_KEY
from tests.integration.tracing.stack import TracedStack
from tests.servers import ConnectServer, SearchServer
from tests.stack import Process

MODULES: Mapping[str, list[str]] = {
    "catalog-api": ["services.catalog", "api"],
    "catalog-connector": ["services.catalog", "connector"],
    "catalog-sales": ["services.catalog", "sales"],
    "search-indexer": ["services.search", "indexer"],
    "search-api": ["services.search", "api"],
}
PORT_OF = {
    "catalog-api": "catalog-api", "search-api": "search-api", "webhooks-api": "webhooks-api", "cron-api": "cron-api",
    "checkout-api": "checkout", "sim-bank": "bank", "sim-receivers": "receivers",
}  # fmt: skip


@dataclass
class StoryStack(TracedStack):
    """Roles as there, and those of MODULES."""

    search: SearchServer | None = field(default=None, kw_only=True)
    connect: ConnectServer | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ports |= dict(zip(("catalog-api", "search-api"), free_ports(2), strict=True))

    def _catalog(self, user: str) -> str:
        return self.postgres.url(f"{self.prefix}catalog", user, "lab-only-test")

    def environment(self) -> dict[str, str]:
        assert self.search is not None
        assert self.connect is not None
        return {
            **super().environment(),
            "PAYMENTS_RECONCILER_INTERVAL_SECONDS": "86400",  # a schedule has to order it
            "CATALOG_ADMIN_DATABASE_URL": self.postgres.url(f"{self.prefix}catalog"),
            "CATALOG_DATABASE_URL": self._catalog("catalog_app"),
            "CATALOG_READER_DATABASE_URL": self._catalog("catalog_reader"),
            "CATALOG_CDC_DATABASE_URL": self._catalog("catalog_cdc"),
            "CATALOG_CONNECT_URL": self.connect.url,
            "CATALOG_KAFKA_BOOTSTRAP": self.bootstrap,
            "CATALOG_SALES_MERCHANT": "mer_demo",
            "SEARCH_ADMIN_DATABASE_URL": self.postgres.url(f"{self.prefix}search"),
            "SEARCH_DATABASE_URL": self.postgres.url(f"{self.prefix}search", "search_app", "lab-only-test"),
            "SEARCH_CATALOG_DATABASE_URL": self._catalog("catalog_reader"),
            "SEARCH_ENGINE_URLS": self.search.url,
            "SEARCH_INDEX_REPLICAS": "0",
            "SEARCH_KAFKA_BOOTSTRAP": self.bootstrap,
            "SEARCH_CURSOR_KEY": "a-key-for-tests-only",
            "SEARCH_RULES_KEY": "a-key-for-tests-only",
            **self.extra,
        }

    def module(self, role: str) -> list[str]:
        return MODULES[role] if role in MODULES else super().module(role)

    async def migrate(self) -> None:
        await super().migrate()
        for service in ("catalog", "search"):
            run = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{service}", "migrate",
                env=self.environment(), stdout=subprocess.DEVNULL,
            )  # fmt: skip
            assert await run.wait() == 0

    async def begin(self) -> None:
        """All of it, two at a time: a test machine has two cores."""
        await self.create_topics()
        await self.migrate()
        turns = asyncio.Semaphore(2)

        async def one(role: str) -> Process:
            async with turns:
                return await self.start(role)

        await self.start("jaeger")
        await asyncio.gather(*map(one, ("bank", "receivers")))
        roles = (
            "api",
            "checkout",
            "relay",
            "reconciler",
            "webhooks-api",
            "dispatcher",
            "source",
            "cron-api",
            "scheduler",
        )
        await asyncio.gather(*map(one, (*roles, *MODULES)))

    async def drop_indices(self) -> None:
        """The engine is shared with other tests."""
        assert self.search is not None
        async with Engine([self.search.url], timeout=30) as engine:
            for name in await engine.aliases(f"{self.prefix}products-write"):
                await engine.delete_index(name)

    async def index_is_fresh(self) -> bool:
        """Whether search shows the story's product as the catalogue has it."""
        assert self.search is not None
        rows = await self.sql("SELECT id::text, stock FROM products", database="catalog")
        async with Engine([self.search.url], timeout=30) as engine:
            alias = f"{self.prefix}products"
            await engine.refresh(alias)
            shown = [(await engine.get(alias, row["id"])).source.get("stock") for row in rows]
        return shown == [row["stock"] for row in rows]

    # --- what a House is ------------------------------------------------------------------------------------------------

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[PORT_OF[service]]}"

    def variable(self, name: str) -> str:
        return {
            "SIM_RECEIVERS_HOST": "127.0.0.1",
            "SIM_RECEIVERS_HOOKS_PORT": str(self.ports["hooks"]),
            "SIM_RECEIVERS_SECRET": "lab-only-test-receivers-secret",
            "SIM_BANK_API_KEY": BANK_KEY,
        }[name]

    def store(self) -> tuple[str, int, str]:
        return self.postgres.host, self.postgres.port, self.postgres.password


@dataclass(frozen=True)
class StackHouse:
    """The stack as labs.story.house.House has it."""

    stack: StoryStack

    @property
    def prefix(self) -> str:
        return self.stack.prefix

    def url(self, service: str) -> str:
        return self.stack.url(service)

    def variable(self, name: str) -> str:
        return self.stack.variable(name)

    def store(self) -> tuple[str, int, str]:
        return self.stack.store()

    def bootstrap(self) -> str:
        return self.stack.bootstrap
