"""Each fault injects, proves, heals and verifies; at zero intensity it changes nothing. Real processes, real Toxiproxy."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import web

from infra.native.free_ports import free_ports
from infra.runtime import Edge, ProcessIdentity, ServiceStatus
from labs.engine.model import Fault, HealFailedError, InjectFailedError, at
from labs.engine.schedule import FaultPlan
from labs.faults import bank, edge, kill, kill_at_failpoint, network, pause, restart
from labs.faults.flows import RemoteFlows
from labs.faults.process import Frozen
from labs.faults.sockets import accepted
from labs.faults.toxiproxy import Toxiproxy
from tests.labs.fake_world import FakeRuntime

PROCESS = Path(__file__).parent / "failing_process.py"
TOXIPROXY = Path(__file__).parents[2] / ".lab" / "bin" / "toxiproxy-server"
PATIENCE = 15.0


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {port}")


@dataclass
class OneProcess(FakeRuntime):
    """A runtime of one real process, `toy`."""

    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def start(self, service: str, *, wait: bool = True, timeout: float = 60.0) -> ProcessIdentity:
        self.process = subprocess.Popen([sys.executable, str(PROCESS), str(self.port)])
        wait_until_open(self.port)
        found = self.identity(service)
        assert found is not None
        return found

    def identity(self, service: str) -> ProcessIdentity | None:
        if self.process is None or self.process.poll() is not None:
            return None
        return ProcessIdentity(service, self.process.pid, psutil.Process(self.process.pid).create_time(), "toy")

    def kill(self, service: str) -> ProcessIdentity:
        found = self.identity(service)
        assert found is not None
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        return found

    def stop(self, service: str, *, timeout: float | None = None) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def pause(self, service: str) -> ProcessIdentity:
        return self._send(service, signal.SIGSTOP)

    def resume(self, service: str) -> ProcessIdentity:
        return self._send(service, signal.SIGCONT)

    def stands_still(self, service: str) -> bool:
        found = self.identity(service)
        return found is not None and psutil.Process(found.pid).status() == psutil.STATUS_STOPPED

    def _send(self, service: str, number: signal.Signals) -> ProcessIdentity:
        found = self.identity(service)
        assert found is not None
        os.kill(found.pid, number)
        return found

    def healthy(self, service: str) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.settimeout(2)
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: toy\r\nConnection: close\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


@dataclass
class Context:
    """`FaultContext` with one role per name."""

    runtime: FakeRuntime
    session: aiohttp.ClientSession
    bank_url: str = ""
    api: str = ""
    edge_name: str = "toy.bank"
    seed: int = 7

    def service(self, role: str) -> str:
        return "toy"

    def url(self, role: str) -> str:
        return self.bank_url if role == "bank" else f"http://127.0.0.1:{getattr(self.runtime, 'port', 0)}"

    def edge(self, name: str) -> Edge:
        return Edge(self.edge_name, "toy", "bank", "", "")

    def toxiproxy(self) -> str:
        return self.api

    def now(self) -> float:
        return time.monotonic()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield session


@pytest.fixture
def toy() -> Iterator[OneProcess]:
    runtime = OneProcess()
    runtime.start("toy")
    yield runtime
    runtime.stop("toy")


async def life(runtime: OneProcess) -> tuple[int, float]:
    found = await asyncio.to_thread(runtime.identity, "toy")
    assert found is not None
    return found.pid, found.started_at


async def test_kill_proves_who_died_and_heal_starts_another_life(
    toy: OneProcess, session: aiohttp.ClientSession
) -> None:
    ctx, fault = Context(toy, session), kill("sut")
    before = await life(toy)
    receipt = await fault.receipt(ctx, await fault.inject(ctx))
    assert receipt.proven
    assert receipt.facts["pid"] == before[0]
    assert toy.identity("toy") is None
    await fault.heal(ctx)
    assert await life(toy) != before
    after = await life(toy)
    await fault.heal(ctx)
    assert await life(toy) == after


async def test_pause_proves_silence_and_heal_thaws_the_same_life(
    toy: OneProcess, session: aiohttp.ClientSession
) -> None:
    ctx, fault = Context(toy, session), pause("sut")
    before = await life(toy)
    receipt = await fault.receipt(ctx, await fault.inject(ctx))
    assert receipt.proven
    assert receipt.facts["answered_while_paused"] is False
    assert not toy.healthy("toy")
    await fault.heal(ctx)
    await fault.heal(ctx)
    assert toy.healthy("toy")
    assert await life(toy) == before


async def test_a_pause_that_did_not_hold_gives_no_receipt(toy: OneProcess, session: aiohttp.ClientSession) -> None:
    ctx, fault = Context(toy, session), pause("sut")
    handle = await fault.inject(ctx)
    assert isinstance(handle, Frozen)
    toy.resume("toy")
    assert await asyncio.wait_for(handle.probe, PATIENCE)
    assert not (await fault.receipt(ctx, handle)).proven


async def test_restart_gives_another_life(toy: OneProcess, session: aiohttp.ClientSession) -> None:
    ctx, fault = Context(toy, session), restart("sut")
    receipt = await fault.receipt(ctx, await fault.inject(ctx))
    assert receipt.proven
    await fault.heal(ctx)


async def test_killing_what_does_not_run_is_no_fault(toy: OneProcess, session: aiohttp.ClientSession) -> None:
    toy.stop("toy")
    with pytest.raises(InjectFailedError, match="did not run"):
        await kill("sut").inject(Context(toy, session))


async def test_a_failpoint_kills_the_process_at_the_nth_hit(toy: OneProcess, session: aiohttp.ClientSession) -> None:
    ctx, fault = Context(toy, session), kill_at_failpoint("sut", "toy.before_answer", nth=3)
    before = await life(toy)
    inject = asyncio.create_task(fault.inject(ctx))
    answered = 0
    with suppress(aiohttp.ClientError):
        while answered < 2000:
            async with session.get(f"{ctx.url('sut')}/work"):
                answered += 1
    receipt = await fault.receipt(ctx, await inject)
    assert 2 <= answered < 2000
    assert receipt.proven
    assert receipt.facts["pid"] == before[0]
    assert receipt.facts["failpoint"] == "toy.before_answer"
    await fault.heal(ctx)
    assert await life(toy) != before


@pytest.mark.parametrize(
    ("exit_code", "detail", "proven"), [(137, "", True), (1, "", False), (137, "killed", False), (None, "", True)]
)
async def test_only_a_death_by_its_own_hand_proves_a_failpoint(
    toy: OneProcess,
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    exit_code: int | None,
    detail: str,
    proven: bool,
) -> None:
    row = ServiceStatus("toy", "exited", None, exit_code, None, None, None, None, 0, detail)
    monkeypatch.setattr(toy, "status", lambda: [row])
    receipt = await kill_at_failpoint("sut", "toy.before_answer").receipt(Context(toy, session), toy.identity("toy"))
    assert receipt.proven is proven


async def test_what_died_by_itself_after_its_heal_is_not_started_again_in_secret(
    toy: OneProcess, session: aiohttp.ClientSession
) -> None:
    plan = FaultPlan((at(0, kill("sut", down=0)),), Context(toy, session))
    await plan.run()
    assert toy.identity("toy") is not None
    toy.kill("toy")
    assert await plan.heal_all() == []
    assert toy.identity("toy") is None


async def test_a_failpoint_that_is_never_hit_is_no_fault_and_heal_disarms_it(
    toy: OneProcess, session: aiohttp.ClientSession
) -> None:
    ctx = Context(toy, session)
    fault = kill_at_failpoint("sut", "toy.before_answer")
    impatient = type(fault)(fault.role, fault.name, patience=0.3)
    with pytest.raises(InjectFailedError, match="did not come to"):
        await impatient.inject(ctx)
    await impatient.heal(ctx)
    async with session.get(f"{ctx.url('sut')}/work") as answer:
        assert answer.status == 200


async def test_an_unknown_failpoint_is_refused(toy: OneProcess, session: aiohttp.ClientSession) -> None:
    with pytest.raises(InjectFailedError, match=r"refused to arm toy\.typo: HTTP 404"):
        await kill_at_failpoint("sut", "toy.typo").inject(Context(toy, session))


@pytest.mark.parametrize(
    "fault",
    [kill("sut", times=0), pause("sut", times=0), restart("sut", times=0), kill_at_failpoint("sut", "x", nth=0)],
    ids=lambda fault: fault.kind,
)
async def test_a_process_fault_at_zero_intensity_changes_nothing(
    toy: OneProcess, session: aiohttp.ClientSession, fault: Fault
) -> None:
    ctx = Context(toy, session)
    before = await life(toy)
    assert (await fault.receipt(ctx, await fault.inject(ctx))).proven
    assert toy.healthy("toy")
    await fault.heal(ctx)
    assert await life(toy) == before


# --- the simulator's switches -----------------------------------------------------------------------------------


@dataclass
class FakeBank:
    """`/lab/behaviours` as the simulators have it. `stuck` ignores DELETE."""

    hits: int = 3
    stuck: bool = False
    on: dict[str, dict[str, object]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    async def put(self, request: web.Request) -> web.Response:
        if request.match_info["name"] == "typo":
            return web.Response(status=404)
        self.on[request.match_info["name"]] = await request.json()
        self.seen.add(request.match_info["name"])
        return web.json_response({})

    async def delete(self, request: web.Request) -> web.Response:
        if not self.stuck:
            self.on.pop(request.match_info["name"], None)
        return web.json_response({})

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(
            [
                {"name": n, "parameters": {}, "hits": self.hits, "references": ["ch_1"], "active": n in self.on}
                for n in self.seen
            ]
        )


@pytest.fixture
async def simulated(session: aiohttp.ClientSession) -> AsyncIterator[tuple[FakeBank, Context]]:
    fake = FakeBank()
    app = web.Application()
    app.router.add_put("/lab/behaviours/{name}", fake.put)
    app.router.add_delete("/lab/behaviours/{name}", fake.delete)
    app.router.add_get("/lab/behaviours", fake.get)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_ports(1)[0]
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield fake, Context(FakeRuntime(), session, bank_url=f"http://127.0.0.1:{port}")
    await runner.cleanup()


async def test_a_switch_sends_the_seed_counts_hits_and_is_verified_off(simulated: tuple[FakeBank, Context]) -> None:
    fake, ctx = simulated
    fault = bank.loses_answer(share=0.05)
    handle = await fault.inject(ctx)
    assert fake.on["loses_answer"] == {"share": 0.05, "hold_seconds": 30.0, "seed": 7}
    receipt = await fault.receipt(ctx, handle)
    assert receipt.proven
    assert receipt.facts["hits"] == 3
    await fault.heal(ctx)
    await fault.heal(ctx)
    assert fake.on == {}


async def test_a_switch_that_hit_nobody_has_no_receipt(simulated: tuple[FakeBank, Context]) -> None:
    fake, ctx = simulated
    fake.hits = 0
    fault = bank.error_after(share=0.5)
    assert not (await fault.receipt(ctx, await fault.inject(ctx))).proven


async def test_a_switch_that_stays_on_fails_its_heal(simulated: tuple[FakeBank, Context]) -> None:
    fake, ctx = simulated
    fake.stuck = True
    fault = bank.declines(share=1)
    await fault.inject(ctx)
    with pytest.raises(HealFailedError, match="still does declines"):
        await fault.heal(ctx)


async def test_a_bank_that_is_gone_cannot_be_told_anything(session: aiohttp.ClientSession) -> None:
    ctx = Context(FakeRuntime(), session, bank_url=f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(InjectFailedError, match="could not be told"):
        await bank.latency(mean_ms=5).inject(ctx)
    with pytest.raises(HealFailedError, match="could not be told to stop"):
        await bank.latency(mean_ms=5).heal(ctx)


@pytest.mark.parametrize(
    "fault",
    [
        bank.loses_answer(share=0),
        bank.latency(mean_ms=0),
        bank.status_lags(seconds=0),
        bank.duplicate_webhooks(copies=1),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_switch_at_zero_intensity_needs_no_hits(simulated: tuple[FakeBank, Context], fault: Fault) -> None:
    fake, ctx = simulated
    fake.hits = 0
    assert (await fault.receipt(ctx, await fault.inject(ctx))).proven


def test_a_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        bank.loses_answer(share=1.5)


@dataclass
class WorkingBank(FakeBank):
    """A bank that has workers, as its settings gave them."""

    async def get(self, request: web.Request) -> web.Response:
        lines: list[dict[str, object]] = [{"name": "latency", "parameters": {"mean_ms": 1}, "hits": 9, "active": False}]
        if "workers" in self.on:
            parameters = {"seed": 0, "factor": 1.0, **self.on["workers"]}
            lines.append(
                {"name": "workers", "parameters": parameters, "hits": self.hits, "references": ["r"], "active": True}
            )
        return web.json_response(lines)

    async def put(self, request: web.Request) -> web.Response:
        if not self.stuck:
            self.on[request.match_info["name"]] = await request.json()
        return web.Response(status=204)


@pytest.fixture
async def working(session: aiohttp.ClientSession) -> AsyncIterator[tuple[WorkingBank, Context]]:
    fake = WorkingBank(on={"workers": {"count": 4, "service_ms": 100.0}})
    app = web.Application()
    app.router.add_put("/lab/behaviours/{name}", fake.put)
    app.router.add_get("/lab/behaviours", fake.get)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_ports(1)[0]
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield fake, Context(FakeRuntime(), session, bank_url=f"http://127.0.0.1:{port}")
    await runner.cleanup()


async def test_a_slower_bank_keeps_its_workers_and_is_as_fast_as_before_once_healed(
    working: tuple[WorkingBank, Context],
) -> None:
    fake, ctx = working
    fault = bank.slower(20)
    await fault.heal(ctx)
    await fault.inject(ctx)
    assert fake.on["workers"] == {"count": 4, "service_ms": 100.0, "factor": 20.0, "seed": 0}
    receipt = await fault.receipt(ctx, None)
    assert (receipt.proven, receipt.facts["hits"]) == (True, 3)
    assert receipt.summary == "slower: 3 charges took 20 times as long"
    for _ in range(2):
        await fault.heal(ctx)
    assert fake.on["workers"] == {"count": 4, "service_ms": 100.0, "factor": 1.0, "seed": 0}


async def test_a_slow_bank_that_served_nobody_has_no_receipt(working: tuple[WorkingBank, Context]) -> None:
    fake, ctx = working
    fake.hits = 0
    await bank.slower(20).inject(ctx)
    assert not (await bank.slower(20).receipt(ctx, None)).proven
    await bank.slower(1).inject(ctx)
    assert (await bank.slower(1).receipt(ctx, None)).proven


async def test_a_bank_without_workers_cannot_be_slower(working: tuple[WorkingBank, Context]) -> None:
    fake, ctx = working
    fake.on.clear()
    with pytest.raises(InjectFailedError, match="has no workers"):
        await bank.slower(20).inject(ctx)
    await bank.slower(20).heal(ctx)


async def test_a_bank_that_stays_slow_fails_its_heal(working: tuple[WorkingBank, Context]) -> None:
    fake, ctx = working
    await bank.slower(20).inject(ctx)
    fake.stuck = True
    with pytest.raises(HealFailedError, match="still takes 20 times as long"):
        await bank.slower(20).heal(ctx)


async def test_a_bank_that_is_gone_cannot_be_slower_nor_healed(session: aiohttp.ClientSession) -> None:
    ctx = Context(FakeRuntime(), session, bank_url=f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(InjectFailedError, match="could not be made slower"):
        await bank.slower(20).inject(ctx)
    with pytest.raises(HealFailedError, match="could not be made as fast"):
        await bank.slower(20).heal(ctx)
    assert not (await bank.slower(20).receipt(ctx, None)).proven


def test_a_factor_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        bank.slower(0)


# --- the network ------------------------------------------------------------------------------------------------


@contextmanager
def toxiproxy_process(folder: Path) -> Iterator[str]:
    port = free_ports(1)[0]
    command = [str(TOXIPROXY), "-host=127.0.0.1", f"-port={port}"]
    with (folder / "toxiproxy.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        wait_until_open(port)
        yield f"http://127.0.0.1:{port}"
        process.kill()


@dataclass
class Proxied:
    """An echo server behind a proxy."""

    ctx: Context
    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def round_trip(self, size: int = 1000) -> float:
        """Seconds for an echo over a new connection."""
        reader, writer = await self.connect()
        begun = time.monotonic()
        writer.write(b"x" * size)
        await asyncio.wait_for(reader.readexactly(size), PATIENCE)
        took = time.monotonic() - begun
        writer.close()
        return took


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
async def proxied(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Proxied]:
    if not TOXIPROXY.exists():
        pytest.skip("Toxiproxy is not set up (make setup)")
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    with toxiproxy_process(tmp_path) as url:
        port = free_ports(1)[0]
        body = {"name": "toy.bank", "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{upstream}", "enabled": True}
        async with session.post(f"{url}/proxies", json=body) as answer:
            assert answer.status == 201
        made = Proxied(Context(FakeRuntime(), session, api=url), port)
        yield made
        await made.close()
    server.close()
    await server.wait_closed()
    while handlers := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
        await asyncio.wait(handlers, timeout=PATIENCE)


async def test_the_kernel_tells_the_payload_of_accepted_connections(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    writer.write(b"x" * 5000)
    await reader.readexactly(5000)
    flows = list((await asyncio.to_thread(accepted, proxied.port)).values())
    assert [flow.from_client for flow in flows] == [5000]
    assert flows[0].to_client >= 4999
    writer.close()


async def test_a_reader_in_another_network_tells_the_same(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    writer.write(b"x" * 5000)
    await reader.readexactly(5000)
    remote = RemoteFlows([sys.executable])
    try:
        assert await asyncio.to_thread(remote, proxied.port) == await asyncio.to_thread(accepted, proxied.port)
    finally:
        await asyncio.to_thread(remote.close)
    writer.close()


async def test_latency_slows_traffic_counts_it_and_is_gone_after_heal(proxied: Proxied) -> None:
    fault = network.latency(edge("sut.bank"), ms=60)
    handle = await fault.inject(proxied.ctx)
    assert await proxied.round_trip() >= 0.12
    receipt = await fault.receipt(proxied.ctx, handle)
    assert receipt.proven
    assert int(str(receipt.facts["bytes_from_client"])) >= 1000
    await fault.heal(proxied.ctx)
    await fault.heal(proxied.ctx)
    assert (await Toxiproxy(proxied.ctx.session, proxied.ctx.api).proxy("toy.bank")).toxics == ()


async def test_traffic_of_long_lived_connections_counts_within_the_window_only(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    writer.write(b"x" * 100_000)
    await reader.readexactly(100_000)
    fault = network.latency(edge("sut.bank"), ms=1)
    handle = await fault.inject(proxied.ctx)
    writer.write(b"x" * 300)
    await reader.readexactly(300)
    receipt = await fault.receipt(proxied.ctx, handle)
    await fault.heal(proxied.ctx)
    assert receipt.facts["bytes_from_client"] == 300
    writer.close()


async def test_a_link_without_traffic_in_the_window_has_no_receipt(proxied: Proxied) -> None:
    fault = network.latency(edge("sut.bank"), ms=10)
    assert not (await fault.receipt(proxied.ctx, await fault.inject(proxied.ctx))).proven
    await fault.heal(proxied.ctx)


async def test_a_blackhole_swallows_and_the_connection_stays_open(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    fault = network.blackhole(edge("sut.bank"))
    handle = await fault.inject(proxied.ctx)
    writer.write(b"x" * 2000)
    await writer.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.4)
    receipt = await fault.receipt(proxied.ctx, handle)
    assert receipt.proven
    assert receipt.facts["connections_cut"] == 0
    await fault.heal(proxied.ctx)
    writer.close()
    assert await proxied.round_trip() < PATIENCE


async def test_a_link_cut_one_way_lets_requests_through_and_swallows_answers(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    fault = network.one_way(edge("sut.bank"))
    handle = await fault.inject(proxied.ctx)
    writer.write(b"x" * 2000)
    await writer.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.4)
    receipt = await fault.receipt(proxied.ctx, handle)
    assert receipt.proven
    assert receipt.facts["bytes_to_client"] == 0
    await fault.heal(proxied.ctx)
    writer.close()
    assert await proxied.round_trip() < PATIENCE


async def test_reset_cuts_connections(proxied: Proxied) -> None:
    fault = network.reset(edge("sut.bank"))
    handle = await fault.inject(proxied.ctx)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await proxied.round_trip()
    await fault.receipt(proxied.ctx, handle)
    await fault.heal(proxied.ctx)
    assert await proxied.round_trip() < PATIENCE


async def test_a_reset_that_cut_nothing_has_no_receipt_though_bytes_passed(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    fault = network.reset(edge("sut.bank"), after_ms=1500)
    handle = await fault.inject(proxied.ctx)
    writer.write(b"x")
    await writer.drain()
    receipt = await fault.receipt(proxied.ctx, handle)
    assert receipt.facts["bytes_from_client"] == 1
    assert not receipt.proven
    assert not reader.at_eof()
    writer.close()
    await fault.heal(proxied.ctx)


async def test_bandwidth_limits_a_transfer(proxied: Proxied) -> None:
    fault = network.bandwidth(edge("sut.bank"), kb_per_second=100)
    handle = await fault.inject(proxied.ctx)
    assert await proxied.round_trip(50_000) > 0.3
    assert (await fault.receipt(proxied.ctx, handle)).proven
    await fault.heal(proxied.ctx)


async def test_down_cuts_what_is_open_refuses_what_comes_and_proves_the_cut(proxied: Proxied) -> None:
    reader, writer = await proxied.connect()
    writer.write(b"x")
    await reader.readexactly(1)
    fault = network.down(edge("sut.bank"))
    handle = await fault.inject(proxied.ctx)
    assert await asyncio.wait_for(reader.read(1), PATIENCE) == b""
    with pytest.raises(OSError, match="onnect"):
        await proxied.connect()
    writer.close()
    receipt = await fault.receipt(proxied.ctx, handle)
    assert receipt.proven
    assert receipt.facts["connections_cut"] == 1
    await fault.heal(proxied.ctx)
    assert await proxied.round_trip() < PATIENCE


@pytest.mark.parametrize(
    "fault",
    [
        network.latency(edge("sut.bank"), ms=0),
        network.bandwidth(edge("sut.bank"), kb_per_second=1, share=0),
        network.reset(edge("sut.bank"), share=0),
        network.blackhole(edge("sut.bank"), share=0),
        network.one_way(edge("sut.bank"), share=0),
        network.down(edge("sut.bank"), share=0),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_network_fault_at_zero_intensity_changes_nothing(proxied: Proxied, fault: Fault) -> None:
    reader, writer = await proxied.connect()
    handle = await fault.inject(proxied.ctx)
    writer.write(b"y" * 30_000)
    assert await asyncio.wait_for(reader.readexactly(30_000), PATIENCE) == b"y" * 30_000
    assert await proxied.round_trip(30_000) < PATIENCE
    assert (await fault.receipt(proxied.ctx, handle)).proven
    await fault.heal(proxied.ctx)
    writer.write(b"z")
    assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"z"
    writer.close()
