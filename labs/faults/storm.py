"""One client who asks for what is expensive, again and again: its own requests, beside the load."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote_plus

import aiohttp

from labs.engine.model import FaultContext, Json, Receipt
from labs.faults.zero import NOTHING

CALL = aiohttp.ClientTimeout(total=10)
NO_ANSWER = 0


@dataclass(slots=True)
class Raging:
    """What came of it so far, by status (0: no answer)."""

    statuses: Counter[int] = field(default_factory=Counter)
    open: set[asyncio.Task[None]] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Storm:
    """`rate` queries a second, each one of `texts`, to the role's `GET /v1/search`, from the start of inject to the receipt."""

    role: str
    texts: Sequence[str]
    rate: float
    lasting: float = 6.0
    kind: str = "storm"
    heals_first: bool = False

    def parameters(self) -> Mapping[str, Json]:
        """`rate` is 0 in a control run."""
        return {"rate": self.rate, "texts": len(self.texts)}

    def target(self, ctx: FaultContext) -> str:
        """Who is asked."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> Raging | None:
        """Begin."""
        if not self.rate:
            return None
        raging = Raging()
        raging.task = asyncio.create_task(self._rage(ctx, raging), name=f"storm on {self.target(ctx)}")
        return raging

    async def _rage(self, ctx: FaultContext, raging: Raging) -> None:
        draw = random.Random(ctx.seed)  # noqa: S311
        while True:
            text = draw.choice(self.texts)
            asking = asyncio.create_task(self._ask(ctx, text, raging.statuses))
            raging.open.add(asking)
            asking.add_done_callback(raging.open.discard)
            await asyncio.sleep(draw.expovariate(self.rate))

    async def _ask(self, ctx: FaultContext, text: str, statuses: Counter[int]) -> None:
        headers = {"X-Client-Id": "storm"}
        url = f"{ctx.url(self.role)}/v1/search?q={quote_plus(text)}"
        try:
            async with ctx.session.get(url, headers=headers, timeout=CALL) as answer:
                await answer.read()
                statuses[answer.status] += 1
        except (aiohttp.ClientError, TimeoutError):
            statuses[NO_ANSWER] += 1

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """The storm is over: what was still open is ended, and how often each answer came is told."""
        if not isinstance(handle, Raging):
            return NOTHING
        assert handle.task is not None
        ending = [handle.task, *handle.open]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        asked = sum(handle.statuses.values()) + len(ending) - 1
        told = ", ".join(f"{times} × {status or 'no answer'}" for status, times in sorted(handle.statuses.items()))
        facts: dict[str, Json] = {str(status): times for status, times in handle.statuses.items()}
        return Receipt(asked > 0, f"{asked} expensive queries at {self.target(ctx)}: {told}", facts)

    async def heal(self, ctx: FaultContext) -> None:
        """It ended with its receipt."""
        del ctx


def storm(role: str, texts: Sequence[str], *, rate: float) -> Storm:
    """`rate` a second; 0 changes nothing."""
    return Storm(role, tuple(texts), rate)
