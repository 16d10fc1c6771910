"""A process that stands still at a named line, as in a long garbage collection or a suspended virtual machine.

It stops itself (SIGSTOP) at the nth hit of a failpoint, so it stands exactly between two steps and not somewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from infra.runtime import ProcessIdentity
from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, InjectFailedError, Json, Receipt
from labs.faults.failpoint import arm, disarm
from labs.faults.process import POLL_SECONDS, identity_facts, wait_healthy
from labs.faults.zero import NOTHING


@dataclass(frozen=True, slots=True)
class StopAtFailpoint:
    """SIGSTOP at the nth hit from now on; SIGCONT `lasting` seconds after it stood still."""

    role: str
    name: str
    nth: int = 1
    lasting: float = 5.0
    patience: float = 10.0
    subject: str = ""
    kind: str = "stop_at_failpoint"
    heals_first: bool = True

    def parameters(self) -> Mapping[str, Json]:
        """`nth` is 0 in a control run."""
        return {"failpoint": self.name, "nth": self.nth, "subject": self.subject}

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> ProcessIdentity | None:
        """Arm it and wait until the process stands still. Raises InjectFailedError if it cannot be armed or is never hit."""
        if not self.nth:
            return None
        service = self.target(ctx)
        identity = await blocking(ctx.runtime.identity, service)
        if identity is None:
            raise InjectFailedError(f"{service} was to stop at {self.name} and did not run")
        await self._arm(ctx)
        deadline = asyncio.get_running_loop().time() + self.patience
        while not await blocking(ctx.runtime.stands_still, service):
            if asyncio.get_running_loop().time() > deadline:
                raise InjectFailedError(f"{service} did not come to {self.name} within {self.patience:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        # The runtime freezes the rest of the tree, too, and knows of it: resume is then the same as after any pause.
        return await blocking(ctx.runtime.pause, service)

    async def _arm(self, ctx: FaultContext) -> None:
        try:
            await arm(ctx, self.role, self.name, action="stop", nth=self.nth, subject=self.subject)
        except (aiohttp.ClientError, TimeoutError) as error:
            if await blocking(ctx.runtime.stands_still, self.target(ctx)):
                return  # it stopped while it answered, which is what was asked for
            raise InjectFailedError(f"{self.target(ctx)} could not be armed at {self.name}: {error}") from error

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Who stood still: the same life as at inject, still stopped."""
        if not isinstance(handle, ProcessIdentity):
            return NOTHING
        now = await blocking(ctx.runtime.identity, handle.service)
        same = now is not None and (now.pid, now.started_at) == (handle.pid, handle.started_at)
        facts = {**identity_facts(handle), "failpoint": self.name, "hit": self.nth}
        summary = f"{handle.service} (pid {handle.pid}) stood still at {self.name}, hit {self.nth}"
        return Receipt(same and await blocking(ctx.runtime.stands_still, handle.service), summary, facts)

    async def heal(self, ctx: FaultContext) -> None:
        """Thaw and disarm; healthy at the end. A process that died meanwhile is not started again here."""
        service = self.target(ctx)
        if not self.nth or await blocking(ctx.runtime.identity, service) is None:
            return
        await blocking(ctx.runtime.resume, service)
        # Without an answer wait_healthy verifies what counts; an armed point that was hit does not strike again.
        await disarm(ctx, self.role, self.name)
        await wait_healthy(ctx.runtime, service)


def stop_at_failpoint(role: str, name: str, *, nth: int = 1, subject: str = "") -> StopAtFailpoint:
    """Stands still from the nth hit to the end of the fault's time. `nth=0` changes nothing.

    With `subject` only hits for what is called so count (see services.kit.failpoint).
    """
    return StopAtFailpoint(role, name, nth, subject=subject)
