"""How receivers misbehave on demand. Whom a behaviour strikes is a range of numbers or a share drawn from the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from services.kit import switches
from services.kit.switches import draw

WELL = "well"


class Parameters(switches.Parameters, frozen=True, kw_only=True):
    """Of every behaviour: whom it strikes.

    Either the receivers `first` to `first + count - 1`, or a `share` of all, drawn from `seed` and the name; by default all.
    """

    first: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    count: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    share: Annotated[float, Meta(ge=0, le=1)] | None = None

    def __post_init__(self) -> None:
        if (self.first is None) != (self.count is None):
            raise ValueError("first and count belong together")
        if self.first is not None and self.share is not None:
            raise ValueError("give either first and count, or share")

    def strikes(self, name: str, receiver: int) -> bool:
        """Whether this receiver is one of them."""
        if self.first is not None and self.count is not None:
            return self.first <= receiver < self.first + self.count
        return self.share is None or draw(self.seed, name, receiver) < self.share


class Lasting(Parameters, frozen=True, kw_only=True):
    """The answer comes after so many seconds, or, where none comes, the connection is kept so long."""

    seconds: Annotated[float, Meta(ge=0, le=300)] = 60.0


class Flapping(Parameters, frozen=True, kw_only=True):
    """503 for `down_share` of each period; receivers are out of step with each other."""

    period_seconds: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    down_share: Annotated[float, Meta(ge=0, le=1)] = 0.5


class RateLimited(Parameters, frozen=True, kw_only=True):
    """429 that asks for so many seconds of quiet."""

    retry_after: Annotated[int, Meta(ge=0, le=86_400)] = 1


KINDS: Mapping[str, type[Parameters]] = {
    "dead": Parameters,
    "hang": Lasting,
    "slow": Lasting,
    "lying": Parameters,
    "endless": Lasting,
    "flapping": Flapping,
    "gone": Parameters,
    "rate_limited": RateLimited,
    "failing": Parameters,
    "redirect": Parameters,
}
"""In the order in which they win where several strike the same receiver."""


@dataclass(slots=True)
class Behaviour(switches.Behaviour[Parameters]):
    """References are of webhooks."""

    def down(self, receiver: int, now: float) -> bool:
        """Whether a flapping receiver is in the bad part of its period at `now` (monotonic seconds)."""
        parameters = self.parameters
        assert isinstance(parameters, Flapping)
        phase = now / parameters.period_seconds + draw(parameters.seed, "phase", receiver)
        return phase % 1 < parameters.down_share


class Switchboard(switches.Switchboard[Behaviour]):
    """All behaviours of these receivers. Everything is off at the start."""

    def __init__(self) -> None:
        super().__init__(KINDS, Behaviour)

    def of(self, receiver: int, now: float) -> Behaviour | None:
        """What strikes this receiver at `now` (monotonic seconds)."""
        for name in KINDS:
            behaviour = self.active(name)
            if behaviour is None or not behaviour.parameters.strikes(name, receiver):
                continue
            if name != "flapping" or behaviour.down(receiver, now):
                return behaviour
        return None
