"""Every process of week 2 that takes part in a trace, and the receiver that their spans go to."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.native.free_ports import free_ports
from services.contracts.trace_edges import End, Kind, SpanSeen
from tests.integration.checkout.stack import CheckoutStack
from tests.integration.payments.stack import Process, client, until

APPLICATION = {"Authorization": "Bearer lab_demo_application_key"}
TENANT = {"Authorization": "Bearer lab_demo_cron_key"}
ALL_TIME = {"query.start_time_min": "2020-01-01T00:00:00Z", "query.start_time_max": "2100-01-01T00:00:00Z"}
KINDS = (Kind.INTERNAL, Kind.INTERNAL, Kind.SERVER, Kind.CLIENT, Kind.PRODUCER, Kind.CONSUMER)
MODULES: Mapping[str, list[str]] = {
    "jaeger": ["labs.console.otlp"],
    "receivers": ["services.simulators.receivers"],
    "target": ["services.simulators.target"],
    "webhooks-api": ["services.webhooks", "api"],
    "dispatcher": ["services.webhooks", "dispatcher"],
    "source": ["services.webhooks", "source"],
    "keeper": ["services.webhooks", "keeper"],
    "cron-api": ["services.cron", "api"],
    "scheduler": ["services.cron", "scheduler"],
    "forgetful-relay": ["tests.integration.tracing.forgetful_relay"],
}


@dataclass
class TracedStack(CheckoutStack):
    """Roles as there, and those of MODULES. `extra` must not name OTLP_ENDPOINT."""

    def __post_init__(self) -> None:
        names = (
            "bank", "api", "checkout", "jaeger", "otlp", "receivers", "hooks", "target", "webhooks-api", "cron-api",
        )  # fmt: skip
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    def environment(self) -> dict[str, str]:
        ports = self.ports
        return {
            **super().environment(),
            "OTLP_ENDPOINT": f"http://127.0.0.1:{ports['otlp']}",
            "OTLP_HTTP_PORT": str(ports["otlp"]),
            "PAYMENTS_BANK_TIMEOUT_SECONDS": "1.5",
            "PAYMENTS_RECONCILER_INTERVAL_SECONDS": "1",
            "WEBHOOKS_ADMIN_DATABASE_URL": self.postgres.url(f"{self.prefix}webhooks"),
            "WEBHOOKS_DATABASE_URL": self.postgres.url(f"{self.prefix}webhooks", "webhooks_app", "lab-only-test"),
            "WEBHOOKS_KAFKA_BOOTSTRAP": self.bootstrap,
            "WEBHOOKS_SECRETS_KEY": "lab-only-test-secrets-key",
            "WEBHOOKS_ALLOW_LOOPBACK": "1",
            "WEBHOOKS_SCHEDULE": "0,0.2",
            "SIM_RECEIVERS_DATABASE_URL": self.postgres.url(f"{self.prefix}receivers"),
            "SIM_RECEIVERS_HOOKS_PORT": str(ports["hooks"]),
            "SIM_RECEIVERS_SECRET": "lab-only-test-receivers-secret",
            "SIM_TARGET_DATABASE_URL": self.postgres.url(f"{self.prefix}target"),
            "CRON_ADMIN_DATABASE_URL": self.postgres.url(f"{self.prefix}cron"),
            "CRON_DATABASE_URL": self.postgres.url(f"{self.prefix}cron", "cron_app", "lab-only-test"),
            "CRON_KAFKA_BOOTSTRAP": self.bootstrap,
            "CRON_ALLOW_LOOPBACK": "1",
            "CRON_NODE": "node-1",
            **self.extra,
        }

    def module(self, role: str) -> list[str]:
        return MODULES[role] if role in MODULES else super().module(role)

    async def migrate(self) -> None:
        await super().migrate()
        for service in ("webhooks", "cron"):
            run = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"services.{service}",
                "migrate",
                env=self.environment(),
                stdout=subprocess.DEVNULL,
            )
            assert await run.wait() == 0

    async def start_all(self) -> None:
        """Two at a time: a test machine has two cores."""
        turns = asyncio.Semaphore(2)

        async def one(role: str) -> Process:
            async with turns:
                return await self.start(role)

        await self.start("jaeger")
        await asyncio.gather(*map(one, ("bank", "receivers", "target")))
        roles = ("api", "checkout", "relay", "resolver", "reconciler", "webhooks-api", "dispatcher", "source", "keeper")
        await asyncio.gather(*map(one, (*roles, "cron-api", "scheduler")))

    def of(self, role: str) -> Process:
        """The newest process of a role."""
        return next(each for each in reversed(self.processes) if each.role == role)

    async def endpoint(self, receiver: int, **fields: Any) -> None:
        """Register receiver `receiver` for all events of the demo application."""
        url = f"http://127.0.0.1:{self.ports['hooks']}/r/{receiver}"
        made = await self.request(
            "POST", "/v1/endpoints", json={"url": url, **fields}, merchant=APPLICATION, role="webhooks-api"
        )
        assert made.status == 201, made.body

    async def job(self, name: str, target: Mapping[str, Any]) -> None:
        """A cron job that is due each second."""
        body = {"name": name, "schedule": {"every_seconds": 1}, "target": target}
        made = await self.request("POST", "/v1/jobs", json=body, merchant=TENANT, role="cron-api")
        assert made.status == 201, made.body

    async def switch(self, role: str, name: str, **parameters: Any) -> None:
        """A behaviour of the receivers."""
        url = f"http://127.0.0.1:{self.ports[role]}/lab/behaviours/{name}"
        async with client() as session, session.put(url, json=parameters) as response:
            assert response.status in (200, 204), await response.text()

    async def asked(self, path: str, **query: str) -> tuple[int, Any, str]:
        """The query API's answer: status, JSON, text."""
        url = f"http://127.0.0.1:{self.ports['jaeger']}/api/v3/{path}"
        async with client() as session, session.get(url, params=query) as response:
            return response.status, await response.json(content_type=None), await response.text()

    async def spans(self, trace_id: str | None = None) -> list[SpanSeen]:
        """Of one trace, or of the last thousand."""
        if trace_id is not None:
            status, body, _ = await self.asked(f"traces/{trace_id}")
        else:
            status, body, _ = await self.asked("traces", **ALL_TIME, **{"query.num_traces": "1000"})
        return [] if status == 404 else list(seen(body["result"], self.prefix))


def seen(result: Any, prefix: str) -> Iterable[SpanSeen]:
    """Spans of OTLP JSON, topics without the prefix."""
    for part in result["resourceSpans"]:
        named = {each["key"]: each["value"].get("stringValue", "") for each in part["resource"]["attributes"]}
        for span in part["scopeSpans"][0]["spans"]:
            end = End(named["service.name"], KINDS[span["kind"]], span["name"].replace(prefix, ""))
            links = tuple((link["traceId"], link["spanId"]) for link in span.get("links", ()))
            yield SpanSeen(span["traceId"], span["spanId"], span.get("parentSpanId", ""), end, links)


__all__ = ["APPLICATION", "TracedStack", "client", "seen", "until"]
