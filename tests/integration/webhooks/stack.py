"""The webhooks system as real processes on databases and topics of its own, and receivers played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import aiohttp
import msgspec
from aiohttp import web

from tests.servers import SESSION_SECONDS
from tests.stack import Answer, Process, ServiceStack, client, until

__all__ = ["Answer", "Process", "Stack", "client", "until"]

APPLICATION = {"Authorization": "Bearer lab_demo_application_key"}
OTHER_APPLICATION = {"Authorization": "Bearer lab_other_application_key"}
QUICK = {
    "WEBHOOKS_SCHEDULE": "0,0.2,0.2,0.2",
    "WEBHOOKS_TIMEOUT_SECONDS": "1",
    "WEBHOOKS_LEASE_MARGIN_SECONDS": "0.5",
    "WEBHOOKS_SWEEP_SECONDS": "0.3",
    "WEBHOOKS_SOURCE_SESSION_SECONDS": SESSION_SECONDS,
}
"""Retries within a second, leases of 1.5 s."""
PATIENT = {"WEBHOOKS_TIMEOUT_SECONDS": "10", "WEBHOOKS_LEASE_MARGIN_SECONDS": "5"}
"""Where requests are counted and no dispatcher dies: an attempt that outlasts its timeout or its lease is made again."""


@dataclass
class Received:
    """One request at a receiver."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receivers:
    """An HTTP server that records every request; `behave` decides per path, 204 without it."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [each for each in self.received if each.path == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append(Received(request.path, request.headers.copy(), await request.read()))
        behaviour = self.behaviours.get(request.path)
        return await behaviour(request) if behaviour else web.Response(status=204)

    def answers(self, path: str, status: int, headers: Mapping[str, str] | None = None) -> None:
        async def behaviour(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, headers=headers)

        self.behaviours[path] = behaviour

    def hangs(self, path: str) -> None:
        async def behaviour(_: web.Request) -> web.StreamResponse:
            await asyncio.sleep(60)
            return web.Response(status=204)

        self.behaviours[path] = behaviour


@asynccontextmanager
async def receivers_running() -> AsyncIterator[Receivers]:
    made = Receivers()
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


@dataclass
class Stack(ServiceStack):
    """Roles `api`, `dispatcher`, `source` and `keeper`."""

    service: ClassVar[str] = "webhooks"

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "WEBHOOKS_SECRETS_KEY": "lab-only-test-secrets-key",
            "WEBHOOKS_ALLOW_LOOPBACK": "1",
            **self.extra,
        }

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        application: Mapping[str, str] = APPLICATION,
        session: aiohttp.ClientSession | None = None,
    ) -> Answer:
        """One request to the API. Raises aiohttp's errors, as when the process dies under it."""
        sent = {**application, **(headers or {})}
        return await self.call(method, path, json=json, data=data, headers=sent, session=session)

    async def endpoint(self, url: str, *, application: Mapping[str, str] = APPLICATION, **fields: Any) -> Any:
        """Register an endpoint; its view."""
        made = await self.request("POST", "/v1/endpoints", json={"url": url, **fields}, application=application)
        assert made.status == 201, made.body
        return made.json

    async def publish(
        self,
        event_id: str,
        event_type: str = "order.paid",
        *,
        application: Mapping[str, str] = APPLICATION,
        **data: Any,
    ) -> Answer:
        """Send a message in."""
        body = {"event_id": event_id, "event_type": event_type, "payload": data}
        return await self.request("POST", "/v1/messages", json=body, application=application)

    async def states(self) -> dict[str, int]:
        """Deliveries by state."""
        rows = await self.sql("SELECT state, count(*) AS n FROM deliveries GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    async def settled(self) -> bool:
        """Nothing waits or is under way."""
        return not await self.sql("SELECT 1 FROM deliveries WHERE state IN ('scheduled', 'in_flight') LIMIT 1")
