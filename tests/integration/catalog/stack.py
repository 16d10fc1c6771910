"""The catalogue as real processes on a database of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg

from tests.servers import ConnectServer
from tests.stack import Answer, Process, ServiceStack, until

__all__ = ["Answer", "Process", "Stack", "until"]

KEY = {"Authorization": "Bearer lab_demo_catalog_key"}
LINES = {"Content-Type": "application/x-ndjson"}
PASSWORD = "lab-only-test"


@dataclass
class Stack(ServiceStack):
    """Roles `api` and `connector`. The latter needs a Connect worker on `bootstrap`'s broker."""

    service: ClassVar[str] = "catalog"

    connect: ConnectServer | None = None

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "CATALOG_READER_DATABASE_URL": self.url("catalog_reader"),
            "CATALOG_CDC_DATABASE_URL": self.url("catalog_cdc"),
            "CATALOG_CONNECT_URL": self.connect.url if self.connect else "http://127.0.0.1:1",
            "CATALOG_CDC_WATCH_SECONDS": "0.2",
            "CATALOG_CDC_HEARTBEAT_MS": "500",
            **self.extra,
        }

    def url(self, user: str) -> str:
        """The database as this role."""
        return self.postgres.url(self.database, user, PASSWORD)

    async def tree(self) -> None:
        """A brand and a category to belong to, both number 1."""
        await self.sql("INSERT INTO brands (id, name) VALUES (1, 'Acme') ON CONFLICT DO NOTHING")
        await self.sql(
            """INSERT INTO categories (id, path, names) VALUES (1, 'home', '{"en": "Home"}') ON CONFLICT DO NOTHING"""
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: Mapping[str, str] = KEY,
    ) -> Answer:
        """One request to the API."""
        return await self.call(method, path, json=json, data=data, headers={**key, **(headers or {})})

    async def create(self, sku: str, /, **changes: Any) -> str:
        """A product; its id at the edge."""
        answer = await self.request("POST", "/v1/products", json=body(sku, **changes))
        assert answer.status == 201, answer.body
        product: str = answer.json["id"]
        return product

    async def send_lines(self, lines: bytes, name: str, **headers: str) -> Answer:
        """An import."""
        return await self.request("POST", "/v1/imports", data=lines, headers={**LINES, "Import-Id": name, **headers})

    async def drop_slot(self) -> None:
        """As an operator's mistake or a failover does it: whoever reads from it is thrown out first."""
        db = await asyncpg.connect(self.postgres.admin_url)
        try:
            await db.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active",
                self.slot,
            )
            await until(lambda: self._try_drop(db), what="the slot dropped")
        finally:
            await db.close()

    async def _try_drop(self, db: asyncpg.Connection[asyncpg.Record]) -> bool:
        try:
            await db.execute("SELECT pg_drop_replication_slot($1)", self.slot)
        except asyncpg.ObjectInUseError:
            await db.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active",
                self.slot,
            )
            return False
        except asyncpg.UndefinedObjectError:
            return True
        return True

    @property
    def slot(self) -> str:
        return f"{self.prefix}catalog_search"


def body(sku: str, /, **changes: Any) -> dict[str, Any]:
    """A product; `...` leaves a field out."""
    whole = {
        "sku": sku,
        "title": f"Thing {sku}",
        "language": "en",
        "brand_id": 1,
        "category_id": 1,
        "price": 100,
        "currency": "EUR",
    } | changes
    return {name: value for name, value in whole.items() if value is not ...}
