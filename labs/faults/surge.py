"""The load itself as a fault: so many times the rate of the baseline, for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, OffersLoad, Receipt
from labs.faults.zero import NOTHING


@dataclass(frozen=True, slots=True)
class Surge:
    """The load's own history says what was offered and what became of it; the receipt only that it was told to grow."""

    role: str
    times: float
    lasting: float = 8.0
    kind: str = "surge"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`times` is 1 in a control run."""
        return {"times": self.times}

    def target(self, ctx: FaultContext) -> str:
        """Who is loaded."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> bool:
        """Raises InjectFailedError for a load that cannot grow."""
        if self.times == 1:
            return False
        _offer(ctx, self.times)
        return True

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """That it was told; an invariant counts what came of it."""
        if handle is not True:
            return NOTHING
        return Receipt(True, f"{self.target(ctx)} was offered {self.times:g} times the load", {"times": self.times})

    async def heal(self, ctx: FaultContext) -> None:
        """The rate of the baseline again. Between two surges leave a second: the earlier one's heal ends the later one."""
        try:
            _offer(ctx, 1.0)
        except InjectFailedError as error:
            raise HealFailedError(str(error)) from error


def _offer(ctx: FaultContext, times: float) -> None:
    if not isinstance(ctx, OffersLoad):
        raise InjectFailedError("nothing here offers load")
    ctx.offer(times)


def surge(role: str, *, times: float) -> Surge:
    """`times` the load's rate, above 0. `times=1` changes nothing."""
    if times <= 0:
        raise ValueError("a load of nothing is none: times is above 0")
    return Surge(role, times)
