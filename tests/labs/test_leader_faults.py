"""Faults of a node among several: who leads, stands still at a line, has a wrong clock, hears no answers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import psutil
import pytest

from infra.runtime import Edge, ProcessIdentity
from labs.engine.model import Fault, HealFailedError, InjectFailedError
from labs.faults import clock, edge, kill_at_failpoint, leader, network, stop_at_failpoint, target
from tests.labs.fake_world import FakeRuntime
from tests.labs.test_faults import OneProcess, wait_until_open

PROCESS = Path(__file__).parent / "leading_process.py"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Node(OneProcess):
    """A runtime of one real process on our own shell."""

    leads: bool = False

    def start(self, service: str, *, wait: bool = True, timeout: float = 60.0) -> ProcessIdentity:
        argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, str(PROCESS), str(self.port), str(int(self.leads))]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until_open(self.port)
        found = self.identity(service)
        assert found is not None
        return found


@dataclass
class Context:
    """`FaultContext` of several nodes, roles `node1` ...; services are called `toy-1` ..."""

    nodes: list[Node]
    session: aiohttp.ClientSession
    runtime: FakeRuntime = field(init=False)
    seed: int = 7

    def __post_init__(self) -> None:
        self.runtime = self.nodes[0]

    def service(self, role: str) -> str:
        return f"toy-{role.removeprefix('node')}"

    def url(self, role: str) -> str:
        return f"http://127.0.0.1:{self.nodes[int(role.removeprefix('node')) - 1].port}"

    def edge(self, name: str) -> Edge:
        raise NotImplementedError

    def toxiproxy(self) -> str:
        return ""

    def now(self) -> float:
        return time.monotonic()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield session


@pytest.fixture
def node() -> Iterator[Node]:
    runtime = Node()
    runtime.start("toy-1")
    yield runtime
    runtime.stop("toy-1")


@pytest.fixture
def ctx(node: Node, session: aiohttp.ClientSession) -> Context:
    return Context([node], session)


async def step(ctx: Context, name: str) -> str:
    async with ctx.session.post(f"{ctx.url('node1')}/step/{name}", timeout=aiohttp.ClientTimeout(total=2)) as answer:
        return await answer.text()


async def steps(ctx: Context, *names: str) -> None:
    """Whoever stands still or dies meanwhile does not answer, which is what is wanted."""
    with suppress(aiohttp.ClientError, TimeoutError):
        while True:
            for name in names:
                await step(ctx, name)


# --- standing still at a line -----------------------------------------------------------------------------------


async def test_a_process_stands_still_at_the_line_and_goes_on_after_the_heal(ctx: Context, node: Node) -> None:
    fault = stop_at_failpoint("node1", "toy.step")
    working = asyncio.create_task(steps(ctx, "any"))
    handle = await fault.inject(ctx)
    assert isinstance(handle, ProcessIdentity)
    assert node.stands_still("toy-1")
    receipt = await fault.receipt(ctx, handle)
    assert receipt.proven
    assert receipt.summary == f"toy-1 (pid {handle.pid}) stood still at toy.step, hit 1"
    await fault.heal(ctx)
    await fault.heal(ctx)
    assert node.healthy("toy-1")
    assert node.identity("toy-1") == handle
    working.cancel()
    assert await step(ctx, "after")


async def test_only_passes_for_the_named_subject_count(ctx: Context) -> None:
    fault = stop_at_failpoint("node1", "toy.step", subject="wanted")
    impatient = type(fault)(fault.role, fault.name, subject="wanted", patience=0.5)
    working = asyncio.create_task(steps(ctx, "other", "another"))
    with pytest.raises(InjectFailedError, match=r"did not come to toy\.step within"):
        await impatient.inject(ctx)
    working.cancel()
    working = asyncio.create_task(steps(ctx, "other", "most-wanted"))
    assert (await fault.receipt(ctx, await fault.inject(ctx))).proven
    await fault.heal(ctx)
    working.cancel()


async def test_a_kill_counts_only_passes_for_its_subject(ctx: Context, node: Node) -> None:
    assert kill_at_failpoint("node1", "toy.step", subject="x").parameters()["subject"] == "x"
    fault = kill_at_failpoint("node1", "toy.step", subject="wanted")
    inject = asyncio.create_task(fault.inject(ctx))
    for _ in range(5):
        assert await step(ctx, "other")
    assert not inject.done()
    await steps(ctx, "wanted")
    assert (await fault.receipt(ctx, await inject)).proven
    assert node.identity("toy-1") is None


async def test_who_was_woken_by_somebody_else_gives_no_receipt(ctx: Context, node: Node) -> None:
    fault = stop_at_failpoint("node1", "toy.step")
    working = asyncio.create_task(steps(ctx, "any"))
    handle = await fault.inject(ctx)
    node.resume("toy-1")
    async with asyncio.timeout(30):
        while psutil.Process(node.process.pid).status() == psutil.STATUS_STOPPED:  # type: ignore[union-attr]  # it runs  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not (await fault.receipt(ctx, handle)).proven
    working.cancel()


async def test_what_does_not_run_or_has_no_such_line_cannot_stop_there(ctx: Context, node: Node) -> None:
    with pytest.raises(InjectFailedError, match=r"refused to arm toy\.typo: HTTP 422"):
        await stop_at_failpoint("node1", "toy.typo").inject(ctx)
    node.stop("toy-1")
    with pytest.raises(InjectFailedError, match="did not run"):
        await stop_at_failpoint("node1", "toy.step").inject(ctx)
    await stop_at_failpoint("node1", "toy.step").heal(ctx)


# --- the clock ---------------------------------------------------------------------------------------------------


async def off_by(ctx: Context) -> timedelta:
    return datetime.fromisoformat(await step(ctx, "clock")) - datetime.now(UTC)


async def test_a_clock_an_hour_ahead_is_read_so_and_put_right_again(ctx: Context) -> None:
    fault = clock.ahead("node1")
    await fault.inject(ctx)
    assert timedelta(minutes=59) < await off_by(ctx) < timedelta(minutes=61)
    receipt = await fault.receipt(ctx, None)
    assert receipt.proven
    assert receipt.summary == "the clock of toy-1 was +3600 s off and read 1 times"
    await fault.heal(ctx)
    await fault.heal(ctx)
    assert abs(await off_by(ctx)) < timedelta(minutes=1)


async def test_a_clock_that_was_put_right_by_a_restart_gives_no_receipt(ctx: Context, node: Node) -> None:
    fault = clock.ahead("node1", seconds=60)
    await fault.inject(ctx)
    await step(ctx, "clock")
    node.kill("toy-1")
    assert not (await fault.receipt(ctx, None)).proven
    await fault.heal(ctx)
    node.start("toy-1")
    assert not (await fault.receipt(ctx, None)).proven


async def test_a_clock_cannot_be_set_beyond_a_month_nor_where_nobody_is(ctx: Context, node: Node) -> None:
    with pytest.raises(InjectFailedError, match="refused to have its clock set: HTTP 422"):
        await clock.ahead("node1", seconds=1e9).inject(ctx)
    node.stop("toy-1")
    with pytest.raises(InjectFailedError, match="could not be set"):
        await clock.ahead("node1").inject(ctx)


async def test_a_process_that_does_not_answer_is_not_taken_for_right(ctx: Context, node: Node) -> None:
    node.pause("toy-1")
    fault = clock.ahead("node1")
    with pytest.raises(HealFailedError, match="could not be set right"):
        await fault.heal(ctx)
    node.resume("toy-1")
    await fault.heal(ctx)


# --- who leads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def three(session: aiohttp.ClientSession) -> Iterator[Context]:
    nodes = [Node(), Node(leads=True), Node()]
    for number, one in enumerate(nodes, 1):
        one.start(f"toy-{number}")
    yield Context(nodes, session)
    for number, one in enumerate(nodes, 1):
        one.stop(f"toy-{number}")


ROLES = ("node1", "node2", "node3")


async def test_the_leader_is_found_when_asked_for(three: Context) -> None:
    assert await leader.leader(*ROLES, gauge="toy_leader")(three) == "toy-2"


async def test_a_leader_that_is_dead_or_frozen_is_none(three: Context) -> None:
    three.nodes[1].pause("toy-2")
    with pytest.raises(InjectFailedError, match="nobody led among node1, node2, node3"):
        await leader.leader_among(three, ROLES, "toy_leader", within=0.2)
    three.nodes[1].stop("toy-2")
    three.nodes[0].stop("toy-1")
    three.nodes[0].leads = True
    three.nodes[0].start("toy-1")
    assert await leader.leader_among(three, ROLES, "toy_leader") == "node1"


async def test_two_who_both_say_that_they_lead_are_no_answer(three: Context) -> None:
    three.nodes[0].stop("toy-1")
    three.nodes[0].leads = True
    three.nodes[0].start("toy-1")
    with pytest.raises(InjectFailedError, match="node1, node2 led among"):
        await leader.leader_among(three, ROLES, "toy_leader", within=0.2)


# --- intensity zero -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [stop_at_failpoint("node1", "toy.step", nth=0), clock.ahead("node1", seconds=0)],
    ids=lambda fault: fault.kind,
)
async def test_at_zero_intensity_nothing_changes(ctx: Context, node: Node, fault: Fault) -> None:
    before = node.identity("toy-1")
    assert (await fault.receipt(ctx, await fault.inject(ctx))).proven
    assert await step(ctx, "any")
    await fault.heal(ctx)
    assert node.identity("toy-1") == before
    assert abs(await off_by(ctx)) < timedelta(minutes=1)


def test_a_held_request_says_whose_and_for_how_long() -> None:
    fault = target.holds_request("dedup-only", seconds=15)
    assert fault.kind == "target.holds_request"
    assert fault.parameters() == {"target": "dedup-only", "hold_seconds": 15, "calls": 1}
    assert not fault.zero
    assert target.holds_request("dedup-only", seconds=0).zero


def test_a_link_cut_one_way_swallows_answers_only() -> None:
    assert network.one_way(edge("node1.store")).parameters()["streams"] == ("downstream",)
    assert network.blackhole(edge("node1.store")).parameters()["streams"] == ("upstream", "downstream")
    assert network.one_way(edge("node1.store"), share=0).zero
