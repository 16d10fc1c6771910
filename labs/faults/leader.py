"""Who leads among several nodes, asked when a fault strikes: for `Variant.resolvers`.

Each node's `/metrics` tells whether it leads. A node that is paused or dead says nothing and is not the leader.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import aiohttp

from labs.engine.model import FaultContext, InjectFailedError, Resolver

CALL = aiohttp.ClientTimeout(total=1)
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 12.0


async def leads(ctx: FaultContext, role: str, gauge: str) -> bool:
    """Whether this node says that it leads; False if it says nothing."""
    try:
        async with ctx.session.get(f"{ctx.url(role)}/metrics", timeout=CALL) as answer:
            found = re.search(rf"^{gauge}(?:\{{[^}}]*\}})? (\S+)$", await answer.text(), re.MULTILINE)
    except (aiohttp.ClientError, TimeoutError):
        return False
    return found is not None and float(found[1]) == 1


async def leader_among(ctx: FaultContext, roles: Sequence[str], gauge: str, *, within: float = PATIENCE_SECONDS) -> str:
    """The role of the one node that leads. Raises InjectFailedError if nobody, or more than one, did all the time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        said = await asyncio.gather(*(leads(ctx, role, gauge) for role in roles))
        leading = [role for role, yes in zip(roles, said, strict=True) if yes]
        if len(leading) == 1:
            return leading[0]
        if loop.time() > deadline:
            raise InjectFailedError(f"{', '.join(leading) or 'nobody'} led among {', '.join(roles)}, not one node")
        await asyncio.sleep(POLL_SECONDS)


def leader(*roles: str, gauge: str) -> Resolver:
    """The service that leads; `gauge` is the metric that is 1 there."""

    async def resolve(ctx: FaultContext) -> str:
        return ctx.service(await leader_among(ctx, roles, gauge))

    return resolve
