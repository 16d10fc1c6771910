"""Faults of a process: SIGKILL, freeze, restart. Proof is the identity (pid and start time) of who was hit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from infra.runtime import ProcessIdentity, Runtime
from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults.zero import NOTHING

HEALTHY_WITHIN_SECONDS = 15.0
POLL_SECONDS = 0.1


def identity_facts(identity: ProcessIdentity) -> Mapping[str, Json]:
    """As it stands in faults.jsonl; `started_at` in seconds on the machine's monotonic clock."""
    return {"pid": identity.pid, "started_at": round(identity.started_at, 3), "service": identity.service}


def died(identity: ProcessIdentity) -> str:
    """For people."""
    return f"{identity.service} (pid {identity.pid}) died"


async def ensure_running(runtime: Runtime, service: str) -> None:
    """Start the service unless somebody runs. Raises HealFailedError if it dies at once, so that it is tried again."""
    if await blocking(runtime.identity, service) is None:
        await blocking(runtime.start, service, wait=False)
    await wait_healthy(runtime, service)


async def wait_healthy(runtime: Runtime, service: str) -> None:
    """Until the health check answers, or a bound: a process that runs but is swamped is its own fault, not ours.

    Whether it recovers is measured after the heal. Raises HealFailedError when the process is gone.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HEALTHY_WITHIN_SECONDS
    while not await blocking(runtime.healthy, service):
        if await blocking(runtime.identity, service) is None:
            raise HealFailedError(f"{service} was started again and died at once")
        if loop.time() > deadline:
            return
        await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to the whole process tree of a role; started again by heal after `lasting` seconds."""

    role: str
    lasting: float = 3.0
    times: int = 1
    kind: str = "kill"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"signal": "SIGKILL", "times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> ProcessIdentity | None:
        """The runtime returns after proof of death."""
        if not self.times:
            return None
        service = self.target(ctx)
        if await blocking(ctx.runtime.identity, service) is None:
            raise InjectFailedError(f"{service} was to be killed and did not run")
        return await blocking(ctx.runtime.kill, service)

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Who died."""
        del ctx
        if not isinstance(handle, ProcessIdentity):
            return NOTHING
        return Receipt(True, died(handle), identity_facts(handle))

    async def heal(self, ctx: FaultContext) -> None:
        """Start it again; healthy at the end."""
        if self.times:
            await ensure_running(ctx.runtime, self.target(ctx))


@dataclass(frozen=True, slots=True)
class Frozen:
    """Who stands still, and a question that it should not answer meanwhile (it ends by itself within 3 s)."""

    identity: ProcessIdentity
    probe: asyncio.Task[bool]


@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP to every process of a role: it keeps its connections and answers nothing."""

    role: str
    lasting: float = 5.0
    times: int = 1
    kind: str = "pause"
    heals_first: bool = True

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"signal": "SIGSTOP", "times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> Frozen | None:
        """The runtime verifies that all of it is frozen. Its health check is asked at once, and should get no answer."""
        if not self.times:
            return None
        service = self.target(ctx)
        identity = await blocking(ctx.runtime.pause, service)
        return Frozen(identity, asyncio.create_task(blocking(ctx.runtime.healthy, service), name=f"probe {service}"))

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Who stood still: the same life as at inject, whose health check got no answer."""
        if not isinstance(handle, Frozen):
            return NOTHING
        was = handle.identity
        now = await blocking(ctx.runtime.identity, was.service)
        answered = handle.probe.done() and handle.probe.result()
        same = now is not None and (now.pid, now.started_at) == (was.pid, was.started_at)
        facts = {**identity_facts(was), "answered_while_paused": answered}
        return Receipt(same and not answered, f"{was.service} (pid {was.pid}) stood still", facts)

    async def heal(self, ctx: FaultContext) -> None:
        """Thaw it; healthy at the end. A process that died meanwhile is not started again here."""
        service = self.target(ctx)
        if not self.times or await blocking(ctx.runtime.identity, service) is None:
            return
        await blocking(ctx.runtime.resume, service)
        await wait_healthy(ctx.runtime, service)


@dataclass(frozen=True, slots=True)
class Restart:
    """A polite restart (SIGTERM, drain, start), as a deployment does it."""

    role: str
    lasting: float = 0.0
    times: int = 1
    kind: str = "restart"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"signal": "SIGTERM", "times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> tuple[ProcessIdentity, ProcessIdentity] | None:
        """Before and after."""
        if not self.times:
            return None
        service = self.target(ctx)
        before = await blocking(ctx.runtime.identity, service)
        if before is None:
            raise InjectFailedError(f"{service} was to be restarted and did not run")
        return before, await blocking(ctx.runtime.restart, service)

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Another life than before."""
        del ctx
        if not isinstance(handle, tuple):
            return NOTHING
        before, after = handle
        changed = (before.pid, before.started_at) != (after.pid, after.started_at)
        facts = {**identity_facts(before), "successor_pid": after.pid}
        return Receipt(changed, f"{before.service} went from pid {before.pid} to {after.pid}", facts)

    async def heal(self, ctx: FaultContext) -> None:
        """It runs and is healthy."""
        if self.times:
            await ensure_running(ctx.runtime, self.target(ctx))


def kill(role: str, *, down: float = 3.0, times: int = 1) -> Kill:
    """SIGKILL now, start again after `down` seconds. `times=0` changes nothing."""
    return Kill(role, down, times)


def pause(role: str, *, times: int = 1) -> Pause:
    """SIGSTOP now, SIGCONT at the end of the fault's time. `times=0` changes nothing."""
    return Pause(role, times=times)


def restart(role: str, *, times: int = 1) -> Restart:
    """SIGTERM, wait, start. `times=0` changes nothing."""
    return Restart(role, times=times)
