"""The payments system as real processes on databases and topics of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import aiohttp

from services.contracts import topics
from services.payments.settings import PaymentsSettings
from tests.records import Record, everything
from tests.stack import Answer, Process, ServiceStack, client, until

__all__ = ["Answer", "Process", "Stack", "client", "until"]

BANK_KEY = "lab-only-test-bank-key"
WEBHOOK_SECRET = "lab-only-test-webhook-secret"
OPS_KEY = "lab-only-test-ops-key"
MERCHANT = {"Authorization": "Bearer lab_demo_merchant_key"}
OTHER_MERCHANT = {"Authorization": "Bearer lab_other_merchant_key"}


@dataclass
class Stack(ServiceStack):
    """Roles `bank`, `api`, `relay`, `resolver`, `reconciler`."""

    service: ClassVar[str] = "payments"
    fixed: ClassVar[tuple[str, ...]] = ("bank", "api")

    @property
    def topic(self) -> str:
        return self.prefix + topics.PAYMENT_EVENTS.name

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "PAYMENTS_BANK_URL": f"http://127.0.0.1:{self.ports['bank']}",
            "PAYMENTS_BANK_API_KEY": BANK_KEY,
            "PAYMENTS_BANK_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "PAYMENTS_KAFKA_BOOTSTRAP": self.bootstrap,
            "SIM_BANK_DATABASE_URL": self.postgres.url(f"{self.prefix}bank"),
            "SIM_BANK_API_KEY": BANK_KEY,
            "SIM_BANK_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "SIM_BANK_WEBHOOK_URL": f"http://127.0.0.1:{self.ports['api']}/v1/bank-events",
            **self.extra,
        }

    def settings(self, **changes: Any) -> PaymentsSettings:
        """For parts that run inside the test's own process."""
        values = {
            "database_url": self.app_url,
            "bank_url": f"http://127.0.0.1:{self.ports['bank']}",
            "bank_api_key": BANK_KEY,
            "bank_webhook_secret": WEBHOOK_SECRET,
            "kafka_bootstrap": self.bootstrap,
        }
        return PaymentsSettings(**(values | changes))

    def module(self, role: str) -> list[str]:
        return ["services.simulators.bank"] if role == "bank" else super().module(role)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        merchant: Mapping[str, str] = MERCHANT,
        session: aiohttp.ClientSession | None = None,
        role: str = "api",
    ) -> Answer:
        """One request to the API. Raises aiohttp's errors, as when the process dies under it."""
        sent = {**merchant, **({"Idempotency-Key": key} if key is not None else {}), **(headers or {})}
        return await self.call(method, path, json=json, data=data, headers=sent, session=session, role=role)

    async def pay(
        self, reference: str, *, key: str | None = None, session: aiohttp.ClientSession | None = None, **changes: Any
    ) -> Answer:
        """Create a payment of 10.00 EUR; the card is `tok_<reference>`."""
        body = {"amount": 1000, "currency": "EUR", "source": f"tok_{reference}", "reference": reference} | changes
        return await self.request("POST", "/v1/payments", json=body, key=key or f"key-{reference}", session=session)

    async def behave(self, name: str, **parameters: Any) -> None:
        url = f"http://127.0.0.1:{self.ports['bank']}/lab/behaviours/{name}"
        async with client() as session, session.put(url, json=parameters) as response:
            assert response.status in (200, 204), await response.text()

    async def behave_well(self, name: str) -> None:
        async with (
            client() as session,
            session.delete(f"http://127.0.0.1:{self.ports['bank']}/lab/behaviours/{name}") as response,
        ):
            assert response.status in (200, 204)

    async def captures(self, reference: str) -> int:
        """How many times the bank took money from this card."""
        query = "SELECT count(*) AS n FROM effects e JOIN charges c ON c.id = e.charge_id WHERE c.source = $1 AND e.kind = 'capture'"
        return int((await self.sql(query, f"tok_{reference}", database="bank"))[0]["n"])

    async def records(self) -> list[Record]:
        """All that is on the topic, in order per partition."""
        return await everything(self.bootstrap, self.topic, partitions=topics.PAYMENT_EVENTS.partitions)

    async def events(self) -> list[tuple[str, str, Any]]:
        """All events on the topic: (payment, type, id), in order per partition."""
        found = []
        for record in await self.records():
            heads = {name: value.decode() for name, value in record.headers if value is not None}
            found.append(((record.key or b"").decode(), heads["ce_type"], heads["ce_id"]))
        return found
