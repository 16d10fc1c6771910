"""Switches of the target: each of its checks can be turned off, and its answers can be slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from services.kit import switches
from services.kit.switches import Parameters
from services.simulators.target.domain import Target


class SlowAnswer(Parameters, frozen=True, kw_only=True):
    """The effect is committed; the answer comes so much later."""

    milliseconds: Annotated[float, Meta(ge=0, le=60_000)]


class HoldsRequest(Parameters, frozen=True, kw_only=True):
    """The next `calls` calls of one target wait so long on their way to it, as in a queue or a network that is stuck."""

    target: Target
    hold_seconds: Annotated[float, Meta(ge=0, le=300)]
    calls: Annotated[int, Meta(ge=1, le=1000)] = 1


KINDS: Mapping[str, type[Parameters]] = {
    "without_dedup": Parameters,
    "without_fencing": Parameters,
    "slow_answer": SlowAnswer,
    "holds_request": HoldsRequest,
}


Behaviour = switches.Behaviour[Parameters]


class Switchboard(switches.Switchboard[Behaviour]):
    """All behaviours of this target. Everything is off at the start."""

    def __init__(self) -> None:
        super().__init__(KINDS, Behaviour)

    def answer_delay(self) -> tuple[Behaviour, float] | None:
        """Seconds between the commit and the answer, if answers are slow."""
        behaviour = self.active("slow_answer")
        if behaviour is None or not isinstance(behaviour.parameters, SlowAnswer):
            return None
        return behaviour, behaviour.parameters.milliseconds / 1000

    def hold(self, target: Target, reference: str) -> float:
        """Seconds that this call waits before anybody looks at it."""
        behaviour = self.active("holds_request")
        if behaviour is None or not isinstance(behaviour.parameters, HoldsRequest):
            return 0.0
        wanted = behaviour.parameters
        if target is not wanted.target or behaviour.hits >= wanted.calls:
            return 0.0
        behaviour.note(reference)
        return wanted.hold_seconds
