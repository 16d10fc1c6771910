"""The load on webhooks against the service itself: its subscribers are taken, found again, and get every event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.__main__ import SYSTEMS, locust
from tests.integration.webhooks.stack import QUICK, Receivers, Stack, receivers_running, until
from tests.servers import PostgresServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ENDPOINTS = 100


@pytest.fixture
async def receivers() -> AsyncIterator[Receivers]:
    async with receivers_running() as made:
        yield made


@pytest.fixture
async def stack(postgres_server: PostgresServer) -> AsyncIterator[Stack]:
    made = Stack(postgres_server, extra=dict(QUICK))
    try:
        await made.migrate()
        for role in ("api", "dispatcher"):
            await made.start(role)
        yield made
    finally:
        made.stop()


async def load(stack: Stack, receivers: Receivers, folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Two seconds of what `make load system=webhooks` does; what it said, and its history."""
    variables = {
        "SIM_RECEIVERS_HOST": "127.0.0.1",
        "SIM_RECEIVERS_HOOKS_PORT": str(receivers.port),
        "SIM_RECEIVERS_SECRET": "master",
    }
    history = folder / "h.jsonl"
    history.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL"),
        *locust(SYSTEMS["webhooks"], ("127.0.0.1", stack.ports["api"]), variables.__getitem__),
        *("--headless", "--only-summary", "--rate", "20", "--seconds", "2", "--history", str(history)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await asyncio.wait_for(process.communicate(), 90))[0].decode()
    assert process.returncode == 0, said
    return said, [json.loads(line) for line in history.read_text().splitlines()]


async def test_subscribers_are_registered_once_and_get_what_is_published(
    stack: Stack, receivers: Receivers, tmp_path: Path
) -> None:
    said, history = await load(stack, receivers, tmp_path)
    assert f"{ENDPOINTS} endpoints are subscribed, {ENDPOINTS} of them new" in said
    assert {one["outcome"] for one in history} == {"ok"}

    async def all_came() -> bool:
        return len(receivers.received) >= 4 * len(history)

    await until(all_came, what="four deliveries of each event")
    keys = {one["key"] for one in history}
    assert {one.json["data"]["event_id"] for one in receivers.received} <= keys
    again, _ = await load(stack, receivers, tmp_path)
    assert f"{ENDPOINTS} endpoints are subscribed, 0 of them new" in again
