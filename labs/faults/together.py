"""Several faults at one time as one: all shards cut at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from labs.engine.model import Fault, FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults.network import SAMPLE_SECONDS, Link


@dataclass(frozen=True, slots=True)
class Together:
    """`role` and `target` name all parts, separated by spaces."""

    parts: tuple[Fault, ...]
    touched: int

    @property
    def kind(self) -> str:
        """That of its parts."""
        return "+".join(dict.fromkeys(part.kind for part in self.parts))

    @property
    def role(self) -> str:
        """All that are hit."""
        return " ".join(part.role for part in self.parts)

    @property
    def lasting(self) -> float:
        """The longest."""
        return max(part.lasting for part in self.parts)

    @property
    def heals_first(self) -> bool:
        """If any part does."""
        return any(part.heals_first for part in self.parts)

    def parameters(self) -> Mapping[str, Json]:
        """Of the first, and how many there are."""
        return {**self.parts[0].parameters(), "parts": len(self.parts)}

    def target(self, ctx: FaultContext) -> str:
        """All of them."""
        return " ".join(part.target(ctx) for part in self.parts)

    async def inject(self, ctx: FaultContext) -> tuple[object, ...]:
        """All at once. Raises the first problem, once each part has been tried: the engine then heals them all."""
        handles = await asyncio.gather(*(part.inject(ctx) for part in self.parts), return_exceptions=True)
        failed = [handle for handle in handles if isinstance(handle, BaseException)]
        if failed:
            await self._stop(ctx, handles)
            raise failed[0]
        return tuple(handles)

    async def _stop(self, ctx: FaultContext, handles: list[object | BaseException]) -> None:
        """A receipt ends what a handle still measures."""
        for part, handle in zip(self.parts, handles, strict=True):
            if not isinstance(handle, BaseException):
                await part.receipt(ctx, handle)

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Proven if at least `touched` parts are."""
        if not isinstance(handle, tuple) or len(handle) != len(self.parts):
            raise InjectFailedError("this fault was never injected")
        receipts = [await part.receipt(ctx, one) for part, one in zip(self.parts, handle, strict=True)]
        hit = [receipt for receipt in receipts if receipt.proven]
        proven = len(hit) >= self.touched
        told = hit if proven else [receipt for receipt in receipts if not receipt.proven]
        summary = told[0].summary if len(told) == 1 else f"{told[0].summary}; and {len(told) - 1} more like it"
        return Receipt(proven, summary, {"proven": len(hit), "parts": len(receipts)})

    async def heal(self, ctx: FaultContext) -> None:
        """All of them, whatever one says. Raises HealFailedError with what is still there."""
        failed = []
        for part in self.parts:
            try:
                await part.heal(ctx)
            except HealFailedError as error:
                failed.append(str(error))
        if failed:
            raise HealFailedError("; ".join(failed))


def together(*parts: Fault, touched: int | None = None) -> Fault:
    """One fault made of several; at least `touched` of them (None: all) must have met traffic.

    Links are sampled the more seldom the more there are: each look reads all sockets. Raises ValueError for no part, or for
    a number that is not among 1 to all.
    """
    least = len(parts) if touched is None else touched
    if not 1 <= least <= len(parts):
        raise ValueError("a fault has at least one part, and as many as are to be touched")
    slower = tuple(
        replace(part, sample_seconds=SAMPLE_SECONDS * len(parts)) if isinstance(part, Link) else part for part in parts
    )
    return slower[0] if len(slower) == 1 else Together(slower, least)
