"""A node whose wall clock is wrong, as without NTP: set over HTTP, proved by what it shows beside ours.

The receipt also counts how often the process has looked: a program that asks its database for the time never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import msgspec

from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults.zero import NOTHING

CALL = aiohttp.ClientTimeout(total=5)
TOLERANCE_SECONDS = 5.0


class Reading(msgspec.Struct, frozen=True):
    """`GET /lab/clock`."""

    now: datetime
    offset_seconds: float
    reads: int

    @property
    def ahead(self) -> float:
        """Seconds ahead of our own clock."""
        return (self.now - datetime.now(UTC)).total_seconds()


async def reading(ctx: FaultContext, role: str) -> Reading:
    """What the clock of a role shows. Raises aiohttp.ClientError, TimeoutError, msgspec.MsgspecError."""
    async with ctx.session.get(f"{ctx.url(role)}/lab/clock", timeout=CALL) as answer:
        answer.raise_for_status()
        return msgspec.json.decode(await answer.read(), type=Reading)


@dataclass(frozen=True, slots=True)
class WrongClock:
    """The wall clock of a role's process is ahead (or, below 0, behind) by so many seconds; monotonic time is right."""

    role: str
    offset_seconds: float
    lasting: float = 10.0
    kind: str = "wrong_clock"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """As sent."""
        return {"offset_seconds": self.offset_seconds}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    def _address(self, ctx: FaultContext) -> str:
        return f"{ctx.url(self.role)}/lab/clock"

    async def _set(self, ctx: FaultContext, offset: float) -> int:
        body = {"offset_seconds": offset}
        async with ctx.session.put(self._address(ctx), json=body, timeout=CALL) as answer:
            return answer.status

    async def _read(self, ctx: FaultContext) -> Reading:
        return await reading(ctx, self.role)

    async def inject(self, ctx: FaultContext) -> None:
        """Put it wrong. Raises InjectFailedError."""
        try:
            status = await self._set(ctx, self.offset_seconds)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise InjectFailedError(f"the clock of {self.target(ctx)} could not be set: {error}") from error
        if status >= 300:
            raise InjectFailedError(f"{self.target(ctx)} refused to have its clock set: HTTP {status}")

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """How wrong it is, compared with ours, and how often the process has looked at it."""
        del handle
        if not self.offset_seconds:
            return NOTHING
        service = self.target(ctx)
        try:
            now = await self._read(ctx)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            return Receipt(False, f"{service} did not say what its clock shows: {error}")
        facts: dict[str, Json] = {"service": service, "ahead_seconds": round(now.ahead, 3), "reads": now.reads}
        proven = abs(now.ahead - self.offset_seconds) < TOLERANCE_SECONDS
        return Receipt(proven, f"the clock of {service} was {now.ahead:+.0f} s off and read {now.reads} times", facts)

    async def heal(self, ctx: FaultContext) -> None:
        """Put it right and see that it is. A process that is not there has no wrong clock: a new life starts right.

        Raises HealFailedError.
        """
        try:
            await self._set(ctx, 0)
            now = await self._read(ctx)
        except aiohttp.ClientConnectorError:
            return
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise HealFailedError(f"the clock of {self.target(ctx)} could not be set right: {error}") from error
        if now.offset_seconds:
            raise HealFailedError(f"the clock of {self.target(ctx)} is still wrong")


def ahead(role: str, *, seconds: float = 3600.0) -> WrongClock:
    """An hour ahead unless said otherwise. `seconds=0` changes nothing."""
    return WrongClock(role, seconds)
