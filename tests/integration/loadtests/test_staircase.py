"""A real staircase, Locust and all, against a server whose capacity is known: two workers of 20 ms each, 100 a second."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from loadtests import steps
from loadtests.__main__ import SYSTEMS, locust
from loadtests.knee import Status
from loadtests.steps import Staircase

WORKERS, SERVICE_SECONDS = 2, 0.02
CALM, OVERLOAD = 20.0, 220.0


class Bank:
    """`POST` answers `captured` once one of its workers has had time for it."""

    def __init__(self) -> None:
        self._workers = asyncio.Semaphore(WORKERS)
        self.served = 0

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        while (await receive()).get("more_body"):
            pass
        async with self._workers:
            await asyncio.sleep(SERVICE_SECONDS)
        self.served += 1
        body = json.dumps({"id": f"pay_{self.served}", "status": "captured"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def served(bank: Bank) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        config = uvicorn.Config(bank, lifespan="off", ws="none", log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.mark.slow
def test_a_server_holds_below_its_capacity_and_not_above_it(tmp_path: Path) -> None:
    bank = Bank()
    with served(bank) as address:
        plan = steps.plan(f"{CALM}:{OVERLOAD}:{OVERLOAD - CALM}", 5, 2000, 42)
        argv = [*locust(SYSTEMS["payments"], address, lambda name: name), "--headless"]
        stairs = Staircase(argv, tmp_path, plan)
        calm, overload = (stairs.perform(rate) for rate in plan.rates)
    assert calm.p50_ms is not None
    assert overload.p50_ms is not None
    assert calm.status is not Status.BEYOND, calm
    assert (calm.ok_share, calm.attempts) == (1.0, 1.0)
    assert overload.status is not Status.WITHIN, overload
    assert overload.throughput_per_second <= WORKERS / SERVICE_SECONDS * 1.1
    assert overload.p50_ms > calm.p50_ms
    assert calm.cores is not None
    assert "payments: ok" in (tmp_path / f"01-{CALM:g}.log").read_text()
