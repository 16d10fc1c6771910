"""What the simulated bank does wrong on demand. Shares are 0 to 1 of the calls; 0 changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import msgspec

from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults.simulator import CALL, Switch
from labs.faults.zero import NOTHING

ROLE = "bank"


def _share(name: str, share: float, **more: float) -> Switch:
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: a share is between 0 and 1")
    return Switch(ROLE, name, {"share": share, **more}, zero=share == 0)


def loses_answer(*, share: float, hold_seconds: float = 30.0) -> Switch:
    """Charges, commits, and never answers: the connection hangs for up to `hold_seconds`."""
    return _share("loses_answer", share, hold_seconds=hold_seconds)


def error_before(*, share: float) -> Switch:
    """500, and nothing was charged."""
    return _share("error_before", share)


def error_after(*, share: float) -> Switch:
    """500, and the card was charged."""
    return _share("error_after", share)


def declines(*, share: float) -> Switch:
    """Refuses the card."""
    return _share("declines", share)


def latency(*, mean_ms: float, sigma: float = 0.5) -> Switch:
    """Adds a log-normal delay to each call."""
    return Switch(ROLE, "latency", {"mean_ms": mean_ms, "sigma": sigma}, zero=mean_ms == 0)


def rate_limit(*, per_second: float) -> Switch:
    """429 with Retry-After above this rate."""
    return Switch(ROLE, "rate_limit", {"per_second": per_second})


def status_lags(*, seconds: float) -> Switch:
    """Asked for an operation younger than this, it says 404."""
    return Switch(ROLE, "status_lags", {"seconds": seconds}, zero=seconds == 0)


def duplicate_webhooks(*, copies: int) -> Switch:
    """Sends each webhook so many times; 1 changes nothing."""
    return Switch(ROLE, "duplicate_webhooks", {"copies": copies}, zero=copies == 1)


WORKERS = "workers"
UNREADABLE = (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError)


class _Workers(msgspec.Struct, frozen=True):
    count: int
    service_ms: float
    factor: float = 1.0
    seed: int = 0


class _WorkersLine(msgspec.Struct, frozen=True):
    parameters: _Workers
    active: bool
    hits: int
    references: tuple[str, ...] = ()


class _AnyLine(msgspec.Struct, frozen=True):
    name: str


@dataclass(frozen=True, slots=True)
class Slower:
    """Each of the bank's workers takes `factor` times as long for a charge that it begins; 1 changes nothing.

    The bank must have workers already (its behaviour `workers`), and keeps its queue.
    """

    factor: float
    role: str = ROLE
    lasting: float = 10.0
    heals_first: bool = False

    @property
    def kind(self) -> str:
        """`bank.slower`."""
        return f"{self.role}.slower"

    def parameters(self) -> Mapping[str, Json]:
        """As the lab wrote it."""
        return {"factor": self.factor}

    def target(self, ctx: FaultContext) -> str:
        """The bank's service."""
        return ctx.service(self.role)

    async def inject(self, ctx: FaultContext) -> None:
        """Change the factor. Raises InjectFailedError, also if the bank has no workers."""
        try:
            line = await self._read(ctx)
            if line is None or not line.active:
                raise InjectFailedError(f"{self.target(ctx)} has no workers that could be slower")
            await self._set(ctx, line.parameters, self.factor)
        except UNREADABLE as error:
            raise InjectFailedError(f"{self.target(ctx)} could not be made slower: {error}") from error

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Charges that a slow worker began."""
        del handle
        if self.factor == 1:
            return NOTHING
        try:
            line = await self._read(ctx)
        except UNREADABLE as error:
            return Receipt(False, f"{self.target(ctx)} did not say what it did: {error}")
        hits = 0 if line is None else line.hits
        references = [] if line is None else list(line.references[:10])
        summary = f"slower: {hits} charges took {self.factor:g} times as long"
        return Receipt(hits > 0, summary, {"hits": hits, "references": references})

    async def heal(self, ctx: FaultContext) -> None:
        """Factor 1 again, seen. A bank that was started anew is as fast as ever. Raises HealFailedError."""
        try:
            line = await self._read(ctx)
            if line is not None and line.active and line.parameters.factor != 1:
                await self._set(ctx, line.parameters, 1.0)
                line = await self._read(ctx)
        except UNREADABLE as error:
            raise HealFailedError(f"{self.target(ctx)} could not be made as fast as before: {error}") from error
        if line is not None and line.active and line.parameters.factor != 1:
            raise HealFailedError(f"{self.target(ctx)} still takes {line.parameters.factor:g} times as long")

    def _address(self, ctx: FaultContext) -> str:
        return f"{ctx.url(self.role)}/lab/behaviours"

    async def _read(self, ctx: FaultContext) -> _WorkersLine | None:
        async with ctx.session.get(self._address(ctx), timeout=CALL) as answer:
            answer.raise_for_status()
            lines = msgspec.json.decode(await answer.read(), type=list[msgspec.Raw])
        for line in lines:
            if msgspec.json.decode(line, type=_AnyLine).name == WORKERS:
                return msgspec.json.decode(line, type=_WorkersLine)
        return None

    async def _set(self, ctx: FaultContext, now: _Workers, factor: float) -> None:
        wanted = msgspec.json.encode(msgspec.structs.replace(now, factor=factor))
        async with ctx.session.put(f"{self._address(ctx)}/{WORKERS}", data=wanted, timeout=CALL) as answer:
            answer.raise_for_status()


def slower(factor: float) -> Slower:
    """Every charge takes `factor` times as long; the bank must have been given workers."""
    if factor <= 0:
        raise ValueError("slower: a factor is above 0")
    return Slower(factor)
