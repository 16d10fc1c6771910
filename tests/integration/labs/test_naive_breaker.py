"""The programs that day 3 breaks: that they work, and that each breaks as the lab says, against a real bank of ten shards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from infra.native.free_ports import free_ports
from labs.invariants.breakers import SHARDS, shard_of
from tests.integration.payments.stack import BANK_KEY, Stack, client, until
from tests.servers import ROOT, PostgresServer

pytestmark = pytest.mark.integration

DEAD = 3


@dataclass
class Naive:
    url: str
    session: aiohttp.ClientSession
    paid: int = 0

    async def pay(self, shard: int) -> int:
        """Status of a payment with the next card of this shard."""
        while shard_of(f"tok_n{self.paid}", SHARDS) != shard:
            self.paid += 1
        body = {"amount": 100, "currency": "EUR", "source": f"tok_n{self.paid}", "reference": f"n{self.paid}"}
        self.paid += 1
        async with self.session.post(f"{self.url}/v1/payments", json=body) as answer:
            await answer.read()
            return answer.status


@asynccontextmanager
async def running(
    kind: str, stack: Stack, shards: list[str], *, module: str = "labs.week02.naive_breaker"
) -> AsyncIterator[Naive]:
    port = free_ports(1)[0]
    environment = {
        **os.environ,
        "LAB_PROFILE": "1",
        "HTTP_PORT": str(port),
        "NAIVE_DATABASE_URL": stack.postgres.url(f"{stack.prefix}payments"),
        "NAIVE_BANK_API_KEY": BANK_KEY,
        "NAIVE_BANK_SHARDS": " ".join(shards),
    }
    process = subprocess.Popen(  # noqa: ASYNC220  # outlives the call
        [sys.executable, "-m", module, kind], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with client() as session:

            async def ready() -> bool:
                try:
                    async with session.get(f"{url}/health/ready") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await until(ready, what=f"naive program {kind}")
            yield Naive(url, session)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
async def bank(postgres_server: PostgresServer) -> AsyncIterator[tuple[Stack, list[str]]]:
    """A bank whose shard DEAD has an address where nobody listens."""
    stack = Stack(postgres_server)
    ports = free_ports(SHARDS + 1)
    stack.extra["SIM_BANK_SHARD_PORTS"] = ",".join(map(str, ports[:SHARDS]))
    addresses = [ports[SHARDS] if number == DEAD else ports[number] for number in range(SHARDS)]
    try:
        await stack.start("bank")
        yield stack, [f"http://127.0.0.1:{port}" for port in addresses]
    finally:
        stack.stop()


async def test_without_a_breaker_a_dead_shard_harms_its_own_cards_only(bank: tuple[Stack, list[str]]) -> None:
    async with running("none", *bank) as naive:
        assert [await naive.pay(DEAD) for _ in range(10)] == [504] * 10
        assert {await naive.pay(shard) for shard in range(SHARDS) if shard != DEAD} == {201}


async def test_the_global_breaker_makes_of_a_tenth_of_an_outage_a_whole_one(bank: tuple[Stack, list[str]]) -> None:
    async with running("global", *bank) as naive:
        for _ in range(3):
            assert {await naive.pay(shard) for shard in range(SHARDS)} <= {201, 504, 503}
        assert [await naive.pay(shard) for shard in range(SHARDS)] == [503] * SHARDS


@pytest.mark.parametrize("arguments", [[], ["both"], ["none", "none"]])
def test_it_wants_to_know_which_breaker(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "labs.week02.naive_breaker", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr.strip()) == (1, "usage: python -m labs.week02.naive_breaker global|none")
