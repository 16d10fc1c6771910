"""A service cut off from the network: it runs on, and nobody reaches it, nor it anybody. Only a container has a network to lose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.runtime import ProcessIdentity
from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, HealFailedError, Json, Receipt
from labs.faults.process import identity_facts, wait_healthy
from labs.faults.zero import NOTHING


@dataclass(frozen=True, slots=True)
class Isolation:
    """`docker network disconnect`, and connect again."""

    role: str
    lasting: float = 10.0
    times: int = 1
    kind: str = "isolation"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> ProcessIdentity | None:
        """Raises RuntimeProblem where services share the machine's network."""
        if not self.times:
            return None
        return await blocking(ctx.runtime.cut, self.target(ctx))

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """The same life runs on, and the engine shows it on no network."""
        if not isinstance(handle, ProcessIdentity):
            return NOTHING
        now = await blocking(ctx.runtime.identity, handle.service)
        same = now is not None and now.pid == handle.pid
        detail = next((row.detail for row in await blocking(ctx.runtime.status) if row.service == handle.service), "")
        summary = f"{handle.service} (pid {handle.pid}) runs on without a network"
        return Receipt(same and detail == "cut off", summary, {**identity_facts(handle), "detail": detail})

    async def heal(self, ctx: FaultContext) -> None:
        """Connected again, healthy at the end. Raises HealFailedError."""
        runtime = ctx.runtime
        if not self.times or await blocking(runtime.uncut, self.target(ctx)) is None:
            return
        if any(row.detail == "cut off" for row in await blocking(runtime.status) if row.service == self.target(ctx)):
            raise HealFailedError(f"{self.target(ctx)} is still cut off")
        await wait_healthy(runtime, self.target(ctx))


def isolation(role: str, *, times: int = 1) -> Isolation:
    """`times=0` changes nothing."""
    return Isolation(role, times=times)
