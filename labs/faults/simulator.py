"""The switches of a simulator (`/lab/behaviours/<name>`): proof is the number of requests that it says it mistreated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import aiohttp
import msgspec

from labs.engine.model import FaultContext, HealFailedError, InjectFailedError, Json, Receipt
from labs.faults.zero import NOTHING

CALL = aiohttp.ClientTimeout(total=5)


class Behaviour(msgspec.Struct, frozen=True):
    """A line of `GET /lab/behaviours`."""

    name: str
    hits: int = 0
    references: tuple[str, ...] = ()
    active: bool = True


@dataclass(frozen=True, slots=True)
class Switch:
    """A misbehaviour of the simulator that plays a role. `values` are the switch's own parameters."""

    role: str
    name: str
    values: Mapping[str, float | str]
    zero: bool = False
    lasting: float = 10.0
    heals_first: bool = False

    @property
    def kind(self) -> str:
        """`bank.loses_answer`."""
        return f"{self.role}.{self.name}"

    def parameters(self) -> Mapping[str, Json]:
        """As sent."""
        return dict(self.values)

    def target(self, ctx: FaultContext) -> str:
        """The simulator's service."""
        return ctx.service(self.role)

    def _address(self, ctx: FaultContext) -> str:
        return f"{ctx.url(self.role)}/lab/behaviours"

    async def inject(self, ctx: FaultContext) -> str:
        """Switch it on. Raises InjectFailedError."""
        url = f"{self._address(ctx)}/{self.name}"
        try:
            async with ctx.session.put(url, json={**self.values, "seed": ctx.seed}, timeout=CALL) as answer:
                if answer.status >= 300:
                    raise InjectFailedError(f"{self.target(ctx)} refused {self.name}: HTTP {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise InjectFailedError(f"{self.target(ctx)} could not be told {self.name}: {error}") from error
        return self.name

    async def receipt(self, ctx: FaultContext, handle: object) -> Receipt:
        """Hits since it was switched on, with some of the references."""
        del handle
        if self.zero:
            return NOTHING
        try:
            behaviour = await self._read(ctx)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            return Receipt(False, f"{self.target(ctx)} did not say what it did: {error}")
        facts: dict[str, Json] = {"hits": behaviour.hits, "references": cast("Json", behaviour.references[:10])}
        return Receipt(behaviour.hits > 0, f"{self.name}: {behaviour.hits} requests were hit", facts)

    async def _read(self, ctx: FaultContext) -> Behaviour:
        async with ctx.session.get(self._address(ctx), timeout=CALL) as answer:
            answer.raise_for_status()
            behaviours = msgspec.json.decode(await answer.read(), type=list[Behaviour])
        found = [behaviour for behaviour in behaviours if behaviour.name == self.name]
        return found[0] if found else Behaviour(self.name, active=False)

    async def heal(self, ctx: FaultContext) -> None:
        """Switch it off and see that it is off. Raises HealFailedError."""
        try:
            async with ctx.session.delete(f"{self._address(ctx)}/{self.name}", timeout=CALL):
                pass
            behaviour = await self._read(ctx)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise HealFailedError(f"{self.target(ctx)} could not be told to stop {self.name}: {error}") from error
        if behaviour.active:
            raise HealFailedError(f"{self.target(ctx)} still does {self.name}")
