"""Packet loss on a link: TCP has to send again, and the caller sees it as latency in steps of a retransmission timeout.

Without Docker the link's Toxiproxy is pointed at a relay through a lossy network namespace of ours (`lossy_link`); with Docker
the packets of the proxy's port are dropped in the network namespace of Toxiproxy's container. The machine's own packet filter is
never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from infra.runtime import Runtime
from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults import nftables
from labs.faults.network import EdgeName
from labs.faults.toxiproxy import Toxiproxy, ToxiproxyError
from labs.faults.zero import NOTHING

HEAVIEST_PERCENT = 90.0
ANSWER_SECONDS = 10.0
_PROGRAM = Path(nftables.__file__).read_text()
"""Sent to the container, so that its image needs nothing of the lab's machinery."""


class Counters(msgspec.Struct, frozen=True):
    """Packets in both directions since the fault began; `retransmitted` only where the namespace is ours alone."""

    seen: int
    dropped: int
    retransmitted: int | None = None


class _Ready(msgspec.Struct, frozen=True):
    port: int | None = None
    problem: str = ""


@dataclass(slots=True)
class Helper:
    """A process that loses packets as long as its stdin is open. Every method raises InjectFailedError."""

    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, argv: Sequence[str]) -> Helper:
        """Its output is read line by line; a Ctrl-C at the terminal is not for it."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return cls(process)

    async def line(self) -> bytes:
        """Its next one."""
        assert self.process.stdout is not None
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), ANSWER_SECONDS)
        except TimeoutError:
            line = b""
        if not line:
            raise InjectFailedError("the process that loses packets ended or gave no answer")
        return line

    async def ready(self) -> int | None:
        """The relay's port, if it is one."""
        told = msgspec.json.decode(await self.line(), type=_Ready)
        if told.problem:
            raise InjectFailedError(told.problem)
        return told.port

    async def counters(self) -> Counters:
        """As of now."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"count\n")
            await self.process.stdin.drain()
        except OSError as error:
            raise InjectFailedError(f"the process that loses packets has ended: {error}") from error
        return msgspec.json.decode(await self.line(), type=Counters)

    async def stop(self) -> None:
        """Its stdin closes, and it ends and takes the loss along."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), ANSWER_SECONDS)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


_helpers: dict[tuple[str, str], Helper] = {}
"""By project and link, so that heal can end what this process began; one of another life has ended with it."""


@dataclass(frozen=True, slots=True)
class Loss:
    """`percent` of the packets of a link are lost, in each direction, to the tenth of a percent; 0 changes nothing."""

    role: str
    percent: float
    lasting: float = 10.0
    kind: str = "loss"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """As asked for."""
        return {"percent": self.percent}

    def target(self, ctx: FaultContext) -> str:
        """The proxy's name."""
        return ctx.edge(self.role).name

    def _per_thousand(self) -> int:
        return round(self.percent * 10)

    async def inject(self, ctx: FaultContext) -> Helper | None:
        """Start to lose. The link's connections are closed once without Docker. Raises InjectFailedError."""
        if not self.percent:
            return None
        helper = await (self._inside_container(ctx) if ctx.runtime.name == "docker" else self._through_relay(ctx))
        _helpers[ctx.runtime.project, self.target(ctx)] = helper
        return helper

    async def _through_relay(self, ctx: FaultContext) -> Helper:
        edge = ctx.edge(self.role)
        argv = (sys.executable, "-m", "labs.faults.lossy_link", edge.upstream, str(self._per_thousand()))
        helper = await Helper.start(argv)
        try:
            port = await helper.ready()
            await Toxiproxy(ctx.session, ctx.toxiproxy()).lead_to(edge.name, f"127.0.0.1:{port}")
        except (ToxiproxyError, InjectFailedError) as error:
            await helper.stop()
            raise InjectFailedError(f"{edge.name} cannot lose packets: {error}") from error
        return helper

    async def _inside_container(self, ctx: FaultContext) -> Helper:
        port = ctx.edge(self.role).listen.rpartition(":")[2]
        helper = await Helper.start([*await _in_proxy_network(ctx.runtime), port, str(self._per_thousand())])
        try:
            await helper.ready()
        except InjectFailedError as error:
            await helper.stop()
            raise InjectFailedError(f"{self.target(ctx)} cannot lose packets: {error}") from error
        return helper

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Packets dropped, of how many."""
        if not isinstance(handle, Helper):
            return NOTHING
        try:
            counted = await handle.counters()
        except InjectFailedError as error:
            return Receipt(False, f"{self.target(ctx)}: {error}")
        again = "" if counted.retransmitted is None else f", {counted.retransmitted} sent again by TCP"
        share = 100 * counted.dropped / max(counted.seen, 1)
        summary = f"{counted.dropped} of {counted.seen} packets on {self.target(ctx)} were lost ({share:.1f} %){again}"
        facts: dict[str, Json] = {"packets": counted.seen, "dropped": counted.dropped}
        if counted.retransmitted is not None:
            facts["retransmitted"] = counted.retransmitted
        return Receipt(counted.dropped > 0, summary, facts)

    async def heal(self, ctx: FaultContext) -> None:
        """The link leads to its server again, and no rule drops anything. Raises HealFailedError."""
        if not self.percent:
            return
        helper = _helpers.pop((ctx.runtime.project, self.target(ctx)), None)
        if helper is not None:
            await helper.stop()
        if ctx.runtime.name == "docker":
            await self._clear_container(ctx)
            return
        edge = ctx.edge(self.role)
        api = Toxiproxy(ctx.session, ctx.toxiproxy())
        try:
            if (await api.proxy(edge.name)).upstream != edge.upstream:
                await api.lead_to(edge.name, edge.upstream)
            now = (await api.proxy(edge.name)).upstream
        except ToxiproxyError as error:
            raise HealFailedError(f"{edge.name} could not be led to its server again: {error}") from error
        if now != edge.upstream:
            raise HealFailedError(f"{edge.name} still leads to {now}")

    async def _clear_container(self, ctx: FaultContext) -> None:
        try:
            helper = await Helper.start([*await _in_proxy_network(ctx.runtime), "clear"])
            try:
                await helper.ready()
            finally:
                await helper.stop()
        except InjectFailedError as error:
            raise HealFailedError(f"{self.target(ctx)} may still lose packets: {error}") from error


async def _in_proxy_network(runtime: Runtime) -> list[str]:
    """A process of ours in the network of Toxiproxy's container that may set its packet filter."""
    words = await blocking(runtime.beside, "toxiproxy")
    at = words.index("--network")
    return [
        *words[:at],
        "--user",
        "0",
        "--cap-add",
        "NET_ADMIN",
        *words[at:],
        "-c",
        _PROGRAM,
    ]


def loss(on: EdgeName, *, percent: float) -> Loss:
    """Raises ValueError outside 0 to 90."""
    if not 0 <= percent <= HEAVIEST_PERCENT:
        raise ValueError(f"loss: percent is 0 to {HEAVIEST_PERCENT:g}")
    return Loss(on.name, percent)
