"""A process that kills itself at a named line: armed over HTTP, proved by the death of exactly that life."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

from infra.runtime import ProcessIdentity
from labs.engine.blocking import blocking
from labs.engine.model import FaultContext, InjectFailedError, Json, Receipt
from labs.faults.process import POLL_SECONDS, died, ensure_running, identity_facts
from labs.faults.zero import NOTHING

CALL = aiohttp.ClientTimeout(total=3)
KILLED = 128 + signal.SIGKILL
"""Exit code as a shell and Docker tell it."""


async def arm(ctx: FaultContext, role: str, name: str, *, action: str, nth: int, subject: str) -> None:
    """`action` at the nth hit from now on. Raises InjectFailedError if it is refused, and aiohttp.ClientError or TimeoutError
    without an answer, which a process may owe that does it at once.
    """
    body = {"action": action, "nth": nth, "subject": subject}
    async with ctx.session.put(_address(ctx, role, name), json=body, timeout=CALL) as answer:
        if answer.status >= 300:
            raise InjectFailedError(f"{ctx.service(role)} refused to arm {name}: HTTP {answer.status}")


async def disarm(ctx: FaultContext, role: str, name: str) -> None:
    """If it answers."""
    with suppress(aiohttp.ClientError, TimeoutError):
        async with ctx.session.delete(_address(ctx, role, name), timeout=CALL):
            return


def _address(ctx: FaultContext, role: str, name: str) -> str:
    return f"{ctx.url(role)}/lab/failpoints/{name}"


@dataclass(frozen=True, slots=True)
class KillAtFailpoint:
    """SIGKILL at the nth hit of a failpoint from now on; started again after `lasting` seconds from its death."""

    role: str
    name: str
    nth: int = 1
    lasting: float = 3.0
    patience: float = 10.0
    kind: str = "kill_at_failpoint"
    heals_first: bool = False
    subject: str = ""

    def parameters(self) -> Mapping[str, Json]:
        """`nth` is 0 in a control run."""
        parameters: dict[str, Json] = {"failpoint": self.name, "nth": self.nth}
        return parameters | {"subject": self.subject} if self.subject else parameters

    def target(self, ctx: FaultContext) -> str:
        """The service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> ProcessIdentity | None:
        """Arm it and wait until the process has died. Raises InjectFailedError when it cannot be armed or is never hit."""
        if not self.nth:
            return None
        service = self.target(ctx)
        before = await blocking(ctx.runtime.identity, service)
        if before is None:
            raise InjectFailedError(f"{service} was to die at {self.name} and did not run")
        await self._arm(ctx)
        deadline = asyncio.get_running_loop().time() + self.patience
        while (now := await blocking(ctx.runtime.identity, service)) is not None and now.pid == before.pid:
            if asyncio.get_running_loop().time() > deadline:
                raise InjectFailedError(f"{service} did not come to {self.name} within {self.patience:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        return before

    async def _arm(self, ctx: FaultContext) -> None:
        try:
            await arm(ctx, self.role, self.name, action="kill", nth=self.nth, subject=self.subject)
        except aiohttp.ServerDisconnectedError:
            return  # it died while it answered, which is what was asked for; the wait for its death decides
        except (aiohttp.ClientError, TimeoutError) as error:
            raise InjectFailedError(f"{self.target(ctx)} could not be armed at {self.name}: {error}") from error

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Who died, and at which hit of which line. A death of another kind than by its own SIGKILL proves nothing."""
        if not isinstance(handle, ProcessIdentity):
            return NOTHING
        facts = {**identity_facts(handle), "failpoint": self.name, "hit": self.nth}
        if otherwise := await self._died_otherwise(ctx):
            return Receipt(False, f"{died(handle)}, but not at {self.name}: {otherwise}", facts)
        return Receipt(True, f"{died(handle)} at {self.name}, hit {self.nth}", facts)

    async def _died_otherwise(self, ctx: FaultContext) -> str:
        """ "" if nothing speaks against its own SIGKILL."""
        rows = await blocking(ctx.runtime.status)
        row = next((one for one in rows if one.service == self.target(ctx) and one.state == "exited"), None)
        if row is None:
            return ""
        if row.exit_code not in (None, KILLED):
            return f"exit code {row.exit_code}"
        return row.detail

    async def heal(self, ctx: FaultContext) -> None:
        """Disarm what was never hit, start what died. A new life starts unarmed."""
        if not self.nth:
            return
        if await blocking(ctx.runtime.identity, self.target(ctx)) is not None:
            # Without an answer it may be dying; ensure_running verifies what counts.
            await disarm(ctx, self.role, self.name)
        await ensure_running(ctx.runtime, self.target(ctx))


def kill_at_failpoint(role: str, name: str, *, nth: int = 1, down: float = 3.0, subject: str = "") -> KillAtFailpoint:
    """The process kills itself at the nth hit and is started again `down` seconds later. `nth=0` changes nothing.

    With `subject` only hits for what is called so count (see services.kit.failpoint).
    """
    return KillAtFailpoint(role, name, nth, down, subject=subject)
