"""Every service that is asked over HTTP, as real processes, each with two tenants who own something. Started when first asked for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
from yarl import URL

from labs.week07.generated import writes
from services.kit import ids
from tests.integration.catalog.stack import KEY as CATALOG_KEY
from tests.integration.catalog.stack import Stack as CatalogStack
from tests.integration.catalog.stack import body as product_body
from tests.integration.checkout.stack import CheckoutStack
from tests.integration.cron.stack import OTHER_TENANT, TENANT
from tests.integration.cron.stack import Stack as CronStack
from tests.integration.payments.stack import MERCHANT, OTHER_MERCHANT
from tests.integration.search.stack import SEED, some
from tests.integration.search.stack import Stack as SearchStack
from tests.integration.webhooks.stack import APPLICATION, OTHER_APPLICATION
from tests.integration.webhooks.stack import Stack as WebhooksStack
from tests.safety.canaries import Collector
from tests.servers import KafkaServer, PostgresServer, SearchServer
from tests.stack import Answer, Process, ServiceStack, client

Headers = Mapping[str, str]

OPS_KEY = "an-ops-key-for-tests"
RULES_KEY = "a-rules-key-for-tests"
CURSOR_KEY = "a-cursor-key-for-tests"
CATALOG_OTHER = "other-catalog-key-for-tests"
PRODUCTS = 200


@dataclass(frozen=True)
class Tenant:
    """Somebody with a key. `owns`: what of theirs fills a parameter of a path; `mark` stands in all that they own."""

    headers: Headers
    owns: Mapping[str, str]
    mark: str


@dataclass(frozen=True)
class Edge:
    """A service that answers."""

    service: str
    process: Process
    document: Mapping[str, Any]
    mine: Tenant
    theirs: Tenant
    operator: Headers = field(default_factory=dict)

    async def ask(
        self,
        method: str,
        path: str,
        headers: Headers | None = None,
        data: bytes | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> Answer:
        """One request, its path as it stands. Raises aiohttp's errors."""
        own = session or client()
        try:
            url = URL(self.process.url + path, encoded=True)
            async with own.request(
                method, url, headers=headers, data=data, skip_auto_headers=("Content-Type",), allow_redirects=False
            ) as got:
                return Answer(got.status, got.headers, await got.read())
        finally:
            if session is None:
                await own.close()


def bearer(key: str) -> dict[str, str]:
    """The header with this key."""
    return {"Authorization": f"Bearer {key}"}


def fresh() -> str:
    return uuid4().hex


async def made(edge_url: str, path: str, body: Any, headers: Headers) -> Any:
    """What a POST of JSON answers, which must be a success."""
    sent = {"Content-Type": "application/json", "Idempotency-Key": fresh(), **headers}
    async with (
        client() as session,
        session.post(edge_url + path, data=msgspec.json.encode(body), headers=sent) as answer,
    ):
        text = await answer.read()
        assert answer.status in (200, 201, 202), f"{path}: {answer.status} {text!r}"
        return msgspec.json.decode(text)


Give = Callable[[str, Headers, str], Awaitable[dict[str, str]]]
"""Makes a tenant's things at this address, marked so: parameter of a path -> what fills it."""


async def give_payments(url: str, headers: Headers, mark: str) -> dict[str, str]:
    body = {"amount": 1000, "currency": "EUR", "source": f"tok_{mark}", "reference": mark, "capture": "manual"}
    return {"payment_id": (await made(url, "/v1/payments", body, headers))["id"], "shard": "0"}


async def give_checkout(url: str, headers: Headers, mark: str) -> dict[str, str]:
    body = {"amount": 1000, "currency": "EUR", "source": f"tok_{mark}", "reference": mark}
    return {"checkout_id": (await made(url, "/v1/checkouts", body, headers))["id"]}


async def give_webhooks(url: str, headers: Headers, mark: str) -> dict[str, str]:
    endpoint = await made(url, "/v1/endpoints", {"url": f"http://127.0.0.1:9999/{mark}", "description": mark}, headers)
    event = {"event_id": mark, "event_type": "order.paid", "payload": {"mark": mark}}
    message = await made(url, "/v1/messages", event, headers)
    replay = await made(url, "/v1/replays", {"message": message["id"]}, headers)
    return {"endpoint": endpoint["id"], "message": message["id"], "replay": replay["id"], "name": "order.paid"}


async def give_cron(url: str, headers: Headers, mark: str) -> dict[str, str]:
    job = {
        "name": f"job-{mark}",
        "schedule": {"cron": "0 0 1 1 *", "zone": "UTC"},
        "target": {"http": {"url": "http://127.0.0.1:9999/"}},
    }
    return {"job_id": (await made(url, "/v1/jobs", job, headers))["id"]}


async def give_catalog(url: str, headers: Headers, mark: str) -> dict[str, str]:
    product = product_body(f"S-{mark}", variants=[{"sku": f"V-{mark}", "price": 100}])
    line = msgspec.json.encode(product_body(f"L-{mark}"))
    sent = {**headers, "Content-Type": "application/x-ndjson", "Import-Id": mark}
    async with client() as session, session.post(f"{url}/v1/imports", data=line, headers=sent) as answer:
        assert answer.status == 200, await answer.text()
    identity = (await made(url, "/v1/products", product, headers))["id"]
    return {"product_id": identity, "sku": f"V-{mark}", "import_id": mark, "brand_id": "1", "category_id": "1"}


async def give_search(url: str, headers: Headers, mark: str) -> dict[str, str]:
    """There are no tenants: a rule is the operators'."""
    rule = {"action": "pin", "products": [ids.encode("prd", some(0).id)], "query": "lamp", "note": mark}
    sent = {**headers, "Content-Type": "application/json"}
    async with (
        client() as session,
        session.put(f"{url}/v1/rules/{mark}", data=msgspec.json.encode(rule), headers=sent) as answer,
    ):
        assert answer.status == 201, await answer.text()
    return {"rule_id": mark}


@dataclass(frozen=True)
class Running:
    """A started service, and who may ask it."""

    process: Process
    give: Give
    keys: tuple[Headers, Headers]
    document: Mapping[str, Any]
    operator: Headers = field(default_factory=dict)


@dataclass
class City:
    """Keeps what was started until `stop`."""

    postgres: PostgresServer
    collector: Collector
    running: dict[str, Running] = field(default_factory=dict)
    stacks: dict[str, ServiceStack] = field(default_factory=dict)

    def edge(self, service: str, servers: Callable[[str], Any]) -> Edge:
        """A running service with tenants' things that no other test knows. Starts it the first time.

        `servers` gives the broker and the engine by the names of their fixtures, where they are needed. Must be called outside
        of an event loop.
        """
        return asyncio.run(self._edge(service, servers))

    @property
    def extra(self) -> dict[str, str]:
        """All that is done is traced and logged."""
        return {"OTLP_ENDPOINT": self.collector.url, "LOG_LEVEL": "DEBUG"}

    async def _edge(self, service: str, servers: Callable[[str], Any]) -> Edge:
        if service not in self.running:
            self.running[service] = await self._started(service, servers)
        found = self.running[service]
        tenants = []
        for headers in found.keys:
            mark = f"x{fresh()[:20]}"
            tenants.append(Tenant(headers, await found.give(found.process.url, headers, mark), mark))
        return Edge(service, found.process, found.document, tenants[0], tenants[1], found.operator)

    async def _started(self, service: str, servers: Callable[[str], Any]) -> Running:
        if service in ("payments", "checkout"):
            process = await self._money(service)
            keys = (MERCHANT, OTHER_MERCHANT)
            if service == "checkout":
                return Running(process, give_checkout, keys, await document_of(process))
            return Running(process, give_payments, keys, await document_of(process), bearer(OPS_KEY))
        if service == "webhooks":
            process = await self._api(service, WebhooksStack(self.postgres, extra=self.extra))
            return Running(process, give_webhooks, (APPLICATION, OTHER_APPLICATION), await document_of(process))
        if service == "cron":
            process = await self._api(service, CronStack(self.postgres, extra=self.extra))
            return Running(process, give_cron, (TENANT, OTHER_TENANT), await document_of(process))
        if service == "catalog":
            stack = CatalogStack(self.postgres, extra=self.extra)
            process = await self._api(service, stack)
            await stack.tree()
            digest = hashlib.sha256(CATALOG_OTHER.encode()).digest()
            await stack.sql("INSERT INTO api_keys (key_sha256, owner) VALUES ($1, 'other')", digest)
            return Running(process, give_catalog, (CATALOG_KEY, bearer(CATALOG_OTHER)), await document_of(process))
        assert service == "search"
        process = await self._search(servers("kafka_server"), servers("search_server"))
        key = bearer(RULES_KEY)
        return Running(process, give_search, (key, key), await document_of(process), key)

    async def _money(self, service: str) -> Process:
        stack = self.stacks.get("payments")
        if stack is None:
            stack = CheckoutStack(self.postgres, extra={**self.extra, "PAYMENTS_OPS_KEY": OPS_KEY})
            self.stacks["payments"] = stack
            await stack.migrate()
            await stack.start("bank")
            await asyncio.gather(stack.start("api"), stack.start("checkout"), stack.start("resolver"))
        role = "api" if service == "payments" else "checkout"
        return next(each for each in stack.processes if each.role == role)

    async def _api(self, service: str, stack: ServiceStack) -> Process:
        self.stacks[service] = stack
        await stack.migrate()
        return await stack.start("api")

    async def _search(self, kafka: KafkaServer, engine: SearchServer) -> Process:
        stack = SearchStack(self.postgres, kafka.bootstrap, search=engine, extra=self.extra)
        self.stacks["search"] = stack
        await stack.migrate_all()
        await stack.create_topics()
        name = await stack.reading()
        async with stack.engine() as asked:
            await asked.bulk(writes(name, SEED, 0, PRODUCTS), refresh=True)
        settings = {
            "SEARCH_CURSOR_KEY": CURSOR_KEY,
            "SEARCH_RULES_KEY": RULES_KEY,
            "SEARCH_RULES_SECONDS": "0.5",
            "SEARCH_CLIENT_RATE": "100000",
            "SEARCH_CLIENT_BURST": "100000",
            "SEARCH_DEADLINE_SECONDS": "20",
            "SEARCH_DEADLINE_LIMIT_SECONDS": "20",
        }
        return await stack.start("api", environment=settings)

    def processes(self) -> list[Process]:
        """All that run, simulators too."""
        return [process for stack in self.stacks.values() for process in stack.processes]

    def stop(self) -> None:
        """Kill all. The index stays in the engine, which is thrown away too."""
        for stack in self.stacks.values():
            stack.stop()


async def document_of(process: Process) -> Mapping[str, Any]:
    """The OpenAPI document that it serves."""
    async with client() as session, session.get(f"{process.url}/openapi.json") as answer:
        found: Mapping[str, Any] = msgspec.json.decode(await answer.read())
        return found
