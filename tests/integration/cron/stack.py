"""The cron system as real processes on a database of its own, and a target inside the test that applies a run once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web

from infra.native.free_ports import free_ports
from tests.stack import Answer, Process, ServiceStack, client, until

__all__ = ["Answer", "Process", "Stack", "client", "until"]

TENANT = {"Authorization": "Bearer lab_demo_cron_key"}
OTHER_TENANT = {"Authorization": "Bearer lab_other_cron_key"}
NODES = ("node-1", "node-2", "node-3")


@dataclass
class Call:
    """What the target was told, and whether it did it."""

    run: str
    job: str
    scheduled_for: str
    epoch: int
    at: float
    body: bytes
    applied: bool


@dataclass
class FakeTarget:
    """Applies a run id once and refuses an epoch below the highest it has seen. `status` answers something else."""

    port: int
    calls: list[Call] = field(default_factory=list)
    highest: int = 0
    status: list[int] = field(default_factory=list)
    hold: float = 0.0
    location: str = ""
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/effects"

    @property
    def applied(self) -> list[Call]:
        return [call for call in self.calls if call.applied]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/effects", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)  # a test may leave a call hanging
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        epoch, run = int(request.headers["Cron-Epoch"]), request.headers["Cron-Run-Id"]
        status = self.status.pop(0) if self.status else 200
        stale = epoch < self.highest
        applied = status == 200 and not stale and all(call.run != run for call in self.applied)
        self.highest = max(self.highest, epoch)
        self.calls.append(
            Call(
                run,
                request.headers["Cron-Job-Id"],
                request.headers["Cron-Scheduled-For"],
                epoch,
                time.monotonic(),
                await request.read(),
                applied,
            )
        )
        await asyncio.sleep(self.hold)
        return web.Response(status=409 if stale else status, headers={"Location": self.location or "/"})


@dataclass
class Stack(ServiceStack):
    """Roles `api`, and each scheduler by its node's name. The target is the test's to start and stop."""

    service: ClassVar[str] = "cron"

    redis_url: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.target = FakeTarget(free_ports(1)[0])

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "CRON_REDIS_URL": self.redis_url,
            "CRON_ALLOW_LOOPBACK": "1",
            "CRON_LEASE_SECONDS": "1",
            "CRON_POLL_SECONDS": "0.05",
            **self.extra,
        }

    def module(self, role: str) -> list[str]:
        return super().module(role if role in ("api", "migrate") else "scheduler")

    def variables(self, role: str) -> dict[str, str]:
        return {"CRON_NODE": role}

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        tenant: Mapping[str, str] = TENANT,
    ) -> Answer:
        """One request to the API."""
        return await self.call(method, path, json=json, data=data, headers={**tenant, **(headers or {})})

    def body(self, name: str, /, **changes: Any) -> dict[str, Any]:
        """A job that is due each second at our target."""
        whole = {"name": name, "schedule": {"every_seconds": 1}, "target": {"http": {"url": self.target.url}}} | changes
        return {field: value for field, value in whole.items() if value is not ...}

    async def create(self, name: str, **changes: Any) -> str:
        """A job; its id."""
        answer = await self.request("POST", "/v1/jobs", json=self.body(name, **changes))
        assert answer.status == 201, answer.body
        job: str = answer.json["id"]
        return job

    async def leader(self) -> str | None:
        """The node that holds the lease."""
        rows = await self.sql("SELECT node FROM leases WHERE expires_at > now()")
        return rows[0]["node"] if rows else None

    async def states(self) -> dict[str, int]:
        """Instants by state."""
        rows = await self.sql("SELECT state, sum(covers)::int AS n FROM runs GROUP BY state")
        return {row["state"]: row["n"] for row in rows}
