"""A bank whose every answer the test decides, for what the simulator does not do: a charge that arrives late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class FakeBank:
    """Idempotent by reference like the real one. `gets_through` decides whether a call does (False: 503, or with
    `breaks` a connection that breaks). A sending waits for `open` before it is executed.
    """

    gets_through: Callable[[str, int], bool] = lambda call, nth: True
    charged: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    tells: dict[str, Any] = field(default_factory=dict)
    breaks: bool = False
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def execute(self, reference: str) -> tuple[int, dict[str, Any]]:
        if reference in self.cancelled:
            return 409, {"type": "urn:bank:reference_cancelled"}
        charge = self.charged.setdefault(reference, f"ch_{len(self.charged)}")
        return 201, {"id": charge, "status": "captured", **self.tells}

    async def _charge(self, request: web.Request) -> web.Response:
        body = await request.json()
        if not self._passes("send"):
            return self._fails(request)
        await self.open.wait()
        status, answer = self.execute(body["reference"])
        return web.json_response(answer, status=status)

    async def _ask(self, request: web.Request) -> web.Response:
        if not self._passes("ask"):
            return self._fails(request)
        charge = self.charged.get(request.match_info["reference"])
        found = {"id": charge, "status": "captured", **self.tells} if charge else {}
        return web.json_response(found, status=200 if charge else 404)

    async def _cancel(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        if not self._passes("cancel"):
            return self._fails(request)
        if charge := self.charged.get(reference):
            return web.json_response({"status": "executed", "operation": {"id": charge, "status": "captured"}})
        self.cancelled.add(reference)
        return web.json_response({"reference": reference, "status": "cancelled"})

    def _fails(self, request: web.Request) -> web.Response:
        if self.breaks and request.transport is not None:
            request.transport.abort()
        return web.json_response({}, status=503)

    def _passes(self, call: str) -> bool:
        self.calls.append(call)
        return self.gets_through(call, self.calls.count(call))

    @asynccontextmanager
    async def serve(self, port: int) -> AsyncIterator[FakeBank]:
        app = web.Application()
        app.router.add_post("/v1/charges", self._charge)
        app.router.add_post("/v1/charges/{charge}/capture", self._charge)
        app.router.add_get("/v1/operations/{reference}", self._ask)
        app.router.add_post("/v1/operations/{reference}/cancel", self._cancel)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield self
        finally:
            await runner.cleanup()
