"""The set-up of day 4: a thousand endpoints, one for each simulated receiver, registered as their owners would."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import aiohttp

from labs.engine.model import FaultContext, PrepareFailedError
from labs.invariants.webhooks import ENDPOINTS, type_of

KEY = "lab_demo_application_key"
AT_ONCE = 16
CALL = aiohttp.ClientTimeout(total=10)


def secret_of(receiver: int, master: str) -> str:
    """What the simulator verifies receiver n's webhooks with."""
    return "whsec_" + base64.b64encode(hashlib.sha256(f"{master}/{receiver}".encode()).digest()).decode()


async def register_all(ctx: FaultContext) -> str:
    """Register the endpoints with the variant under test. Raises PrepareFailedError at the first refusal."""
    variable = ctx.runtime.variable
    base = f"http://{variable('SIM_RECEIVERS_HOST')}:{variable('SIM_RECEIVERS_HOOKS_PORT')}"
    master = variable("SIM_RECEIVERS_SECRET")
    order = f"{ctx.url('sut')}/v1/endpoints"
    gate = asyncio.Semaphore(AT_ONCE)

    async def register(receiver: int) -> None:
        endpoint = {
            "url": f"{base}/r/{receiver}",
            "event_types": [type_of(receiver)],
            "secret": secret_of(receiver, master),
        }
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            gate,
            ctx.session.post(order, json=endpoint, headers=headers, timeout=CALL) as answer,
        ):
            if answer.status != 201:
                raise PrepareFailedError(f"endpoint {receiver} was not registered: HTTP {answer.status}")

    await asyncio.gather(*(register(receiver) for receiver in range(1, ENDPOINTS + 1)))
    return f"{ENDPOINTS} endpoints are registered"
