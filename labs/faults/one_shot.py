"""Work that somebody does to the running system: a one-shot service, from its start to its end, while the load goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, Json, KnowsVariables, Receipt
from labs.faults.zero import NOTHING

KEPT_LINES = 5


@dataclass(frozen=True, slots=True)
class OneShot:
    """`role` is played by a service that ends by itself. It has run when inject is over; nothing is to be healed."""

    role: str
    kind: str
    times: int = 1
    lasting: float = 0.0
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 0 in a control run."""
        return {"times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> float | None:
        """Returns how long it took. Raises RuntimeProblem if it does not end with 0."""
        if not self.times:
            return None
        service = self.target(ctx)
        began = time.monotonic()
        variables = ctx.variables if isinstance(ctx, KnowsVariables) else {}
        await blocking(ctx.runtime.forget, service)
        await blocking(ctx.runtime.up, [service], env=variables)
        return time.monotonic() - began

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """How long it took and what it said last."""
        if not isinstance(handle, float):
            return NOTHING
        lines = await blocking(ctx.runtime.logs, self.target(ctx), lines=KEPT_LINES)
        said = lines[-1].strip() if lines else "it said nothing"
        return Receipt(True, f"{self.target(ctx)} took {handle:.1f} s: {said}", {"seconds": round(handle, 2)})

    async def heal(self, ctx: FaultContext) -> None:
        """What it did stays."""
        del ctx


def one_shot(role: str, *, called: str, times: int = 1) -> OneShot:
    """Run the service that plays `role` to its end; `called` is its kind in the report. `times=0` changes nothing."""
    return OneShot(role, called, times)
