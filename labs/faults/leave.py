"""A process that leaves politely and stays away for a while: what a deployment does to its callers.

`restart` of `labs.faults` starts the successor at once; here the gap is the fault's time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from infra.runtime import ProcessIdentity
from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, InjectFailedError, Json, Receipt
from labs.faults.process import ensure_running, identity_facts
from labs.faults.zero import NOTHING


@dataclass(frozen=True, slots=True)
class Left:
    """Who left, and how long it took from SIGTERM to the end, in seconds."""

    identity: ProcessIdentity
    drained: float
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Leave:
    """SIGTERM, drain, exit; started again by heal."""

    role: str
    lasting: float = 3.0
    times: int = 1
    kind: str = "leave"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"signal": "SIGTERM", "times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> Left | None:
        """The runtime waits for the drain, and kills what has not ended after the grace period."""
        if not self.times:
            return None
        service = self.target(ctx)
        before = await blocking(ctx.runtime.identity, service)
        if before is None:
            raise InjectFailedError(f"{service} was to leave and did not run")
        begun = time.monotonic()
        await blocking(ctx.runtime.stop, service)
        rows = {row.service: row for row in await blocking(ctx.runtime.status)}
        code = rows[service].exit_code if service in rows else None
        return Left(before, time.monotonic() - begun, code)

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """That nobody runs any more, and how it ended."""
        if not isinstance(handle, Left):
            return NOTHING
        who = handle.identity
        gone = await blocking(ctx.runtime.identity, who.service) is None
        code = "" if handle.exit_code is None else f" with exit code {handle.exit_code}"
        summary = f"{who.service} (pid {who.pid}) left {handle.drained:.1f} s after SIGTERM{code}"
        facts = {**identity_facts(who), "drained_seconds": round(handle.drained, 3), "exit_code": handle.exit_code}
        return Receipt(gone, summary, facts)

    async def heal(self, ctx: FaultContext) -> None:
        """Start its successor; healthy at the end."""
        if self.times:
            await ensure_running(ctx.runtime, self.target(ctx))


def leave(role: str, *, times: int = 1) -> Leave:
    """SIGTERM now, start again at the end of the fault's time. `times=0` changes nothing."""
    return Leave(role, times=times)
