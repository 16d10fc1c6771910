"""Faults of a client -> server link, through its Toxiproxy proxy.

The receipt counts what the link carried inside the fault's window: payload bytes and connections, from the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults.flows import Flows, flows_of
from labs.faults.sockets import Flow, accepted
from labs.faults.toxiproxy import Toxic, Toxiproxy, ToxiproxyError
from labs.faults.zero import NOTHING

SAMPLE_SECONDS = 0.05
"""A connection that lives shorter than this may be missed; pools and Kafka clients keep theirs."""


CUTTING = (None, "reset_peer")
"""Toxics (None: the link is down) that end connections; a connection that only carried bytes was not touched."""


@dataclass(slots=True)
class Meter:
    """Samples the connections of one proxy, so that those which close within the window count too."""

    port: int
    read: Flows = accepted
    seconds: float = SAMPLE_SECONDS
    first: dict[int, Flow] = field(default_factory=dict)
    last: dict[int, Flow] = field(default_factory=dict)
    open_now: int = 0
    task: asyncio.Task[None] | None = None

    def sample(self, *, start: bool = False) -> None:
        """Raises OSError where the kernel does not tell."""
        flows = self.read(self.port)
        if start:
            self.first = flows
        self.last.update(flows)
        self.open_now = len(flows)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self.seconds)
            self.sample()

    async def stop(self) -> None:
        """A last sample; ends the task."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.sample()

    def facts(self) -> dict[str, int]:
        """What passed since the start."""
        zero = Flow(0, 0)
        return {
            "bytes_from_client": sum(f.from_client - self.first.get(c, zero).from_client for c, f in self.last.items()),
            "bytes_to_client": sum(f.to_client - self.first.get(c, zero).to_client for c, f in self.last.items()),
            "connections": len(self.last),
            "connections_cut": len(self.last) - self.open_now,
        }


@dataclass(frozen=True, slots=True)
class Link:
    """A toxic on an edge; without `toxic` the edge is taken down."""

    role: str
    kind: str
    toxic: str | None
    attributes: Mapping[str, int]
    share: float = 1.0
    zero: bool = False
    lasting: float = 10.0
    heals_first: bool = False
    streams: tuple[str, ...] = ("upstream", "downstream")
    sample_seconds: float = SAMPLE_SECONDS

    def parameters(self) -> Mapping[str, Json]:
        """As sent to Toxiproxy."""
        return {**self.attributes, "share": self.share, "streams": self.streams}

    def target(self, ctx: FaultContext) -> str:
        """The proxy's name."""
        return ctx.edge(self.role).name

    def _names(self) -> tuple[str, ...]:
        return tuple(f"lab_{self.kind}_{stream}" for stream in self.streams)

    async def inject(self, ctx: FaultContext) -> Meter | None:
        """Start to count, then apply. Raises InjectFailedError."""
        if self.zero:
            return None
        api, proxy = Toxiproxy(ctx.session, ctx.toxiproxy()), self.target(ctx)
        try:
            meter = Meter((await api.proxy(proxy)).port, flows_of(ctx.runtime), self.sample_seconds)
            meter.sample(start=True)
            if self.toxic is None:
                await api.enable(proxy, False)
            else:
                await self._add(api, proxy, self.toxic)
        except (ToxiproxyError, OSError) as error:
            raise InjectFailedError(f"{self.kind} on {proxy}: {error}") from error
        meter.task = asyncio.create_task(meter.run(), name=f"meter {proxy}")
        return meter

    async def _add(self, api: Toxiproxy, proxy: str, toxic: str) -> None:
        for stream, name in zip(self.streams, self._names(), strict=True):
            await api.add(proxy, Toxic(name, toxic, stream, self.share, dict(self.attributes)))

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """What the link carried, and what was cut."""
        proxy = self.target(ctx)
        if not isinstance(handle, Meter):
            return NOTHING
        try:
            await handle.stop()
        except OSError as error:
            return Receipt(False, f"the bytes of {proxy} could not be read: {error}")
        facts = handle.facts()
        moved = facts["bytes_from_client"] + facts["bytes_to_client"]
        touched = facts["connections_cut"] > 0 if self.toxic in CUTTING else moved > 0
        summary = (
            f"{self.kind} on {proxy}: {moved} bytes on {facts['connections']} connections, "
            f"{facts['connections_cut']} of them cut"
        )
        return Receipt(touched, summary, dict(facts))

    async def heal(self, ctx: FaultContext) -> None:
        """Remove it and see that it is gone. Raises HealFailedError."""
        api, proxy = Toxiproxy(ctx.session, ctx.toxiproxy()), self.target(ctx)
        try:
            if self.toxic is None:
                await api.enable(proxy, True)
            else:
                for name in self._names():
                    await api.remove(proxy, name)
            state = await api.proxy(proxy)
        except ToxiproxyError as error:
            raise HealFailedError(f"{self.kind} on {proxy} could not be taken back: {error}") from error
        if not state.enabled or {toxic.name for toxic in state.toxics} & set(self._names()):
            raise HealFailedError(f"{self.kind} on {proxy} is still there")


@dataclass(frozen=True, slots=True)
class EdgeName:
    """A link by the lab's name for it: `edge("sut.bank")`."""

    name: str


def edge(name: str) -> EdgeName:
    """Name a link, for the functions below."""
    return EdgeName(name)


def latency(on: EdgeName, *, ms: int, jitter_ms: int = 0) -> Link:
    """Delay in each direction, so a round trip takes twice as much longer. `ms=0` changes nothing."""
    half = {"latency": ms, "jitter": jitter_ms}
    return Link(on.name, "latency", "latency", half, zero=ms == 0 and jitter_ms == 0)


def bandwidth(on: EdgeName, *, kb_per_second: int, share: float = 1.0) -> Link:
    """Kilobytes per second in each direction and connection. `share` is of the connections; 0 changes nothing."""
    return Link(on.name, "bandwidth", "bandwidth", {"rate": kb_per_second}, share, share == 0)


def reset(on: EdgeName, *, after_ms: int = 0, share: float = 1.0) -> Link:
    """Close connections after `after_ms`; those opened meanwhile with RST. `share=0` changes nothing."""
    return Link(on.name, "reset", "reset_peer", {"timeout": after_ms}, share, share == 0)


def blackhole(on: EdgeName, *, share: float = 1.0) -> Link:
    """Swallow everything in both directions and keep connections open; heal closes all of this link's connections.

    `share=0` changes nothing.
    """
    return Link(on.name, "blackhole", "timeout", {"timeout": 0}, share, share == 0)


def one_way(on: EdgeName, *, share: float = 1.0) -> Link:
    """Swallow the server's answers and nothing else: requests arrive and are executed, and the client never learns it.

    Heal closes all of this link's connections. `share=0` changes nothing.
    """
    return Link(on.name, "one_way", "timeout", {"timeout": 0}, share, share == 0, streams=("downstream",))


def down(on: EdgeName, *, share: float = 1.0) -> Link:
    """Close all connections and refuse new ones. `share` is 1, or 0, which changes nothing."""
    if share not in (0, 1):
        raise ValueError("a link is down wholly (share=1) or not at all (share=0)")
    return Link(on.name, "down", None, {}, share, share == 0)
