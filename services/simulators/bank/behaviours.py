"""How the bank misbehaves on demand. Which call is hit is drawn from the seed and the number of the call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Annotated, TypeVar

from msgspec import Meta

from services.kit import switches
from services.kit.switches import Parameters, draw

Share = Annotated[float, Meta(ge=0, le=1)]


class Sharing(Parameters, frozen=True, kw_only=True):
    """Hits this share of the calls, 0 to 1."""

    share: Share


class Latency(Parameters, frozen=True, kw_only=True):
    """Log-normal delay of each call; `mean_ms` is the mean of the delay, `sigma` that of its logarithm."""

    mean_ms: Annotated[float, Meta(ge=0, le=60_000)]
    sigma: Annotated[float, Meta(ge=0, le=3)] = 0.5


class LosesAnswer(Sharing, frozen=True, kw_only=True):
    """Charges, commits, then never answers."""

    hold_seconds: Annotated[float, Meta(ge=0, le=300)] = 30.0


class RateLimit(Parameters, frozen=True, kw_only=True):
    """A token bucket that holds one second's worth."""

    per_second: Annotated[float, Meta(gt=0, le=100_000)]


class DuplicateWebhooks(Parameters, frozen=True, kw_only=True):
    """Each webhook is sent so many times."""

    copies: Annotated[int, Meta(ge=1, le=20)]


class StatusLags(Parameters, frozen=True, kw_only=True):
    """The status endpoint answers 404 until an operation is this old."""

    seconds: Annotated[float, Meta(ge=0, le=3600)]


class Workers(Parameters, frozen=True, kw_only=True):
    """So many charges at a time, each for `service_ms` times `factor`; the rest wait. A hit is a charge begun at another factor than 1."""

    count: Annotated[int, Meta(ge=1, le=1000)]
    service_ms: Annotated[float, Meta(gt=0, le=60_000)]
    factor: Annotated[float, Meta(gt=0, le=1000)] = 1.0


class SettlementMistakes(Parameters, frozen=True, kw_only=True):
    """Shares of lines that the settlement file gets wrong."""

    missing: Share = 0.0
    extra: Share = 0.0
    wrong_amount: Share = 0.0
    duplicate: Share = 0.0
    late: Share = 0.0


KINDS: Mapping[str, type[Parameters]] = {
    "latency": Latency,
    "error_before": Sharing,
    "error_after": Sharing,
    "loses_answer": LosesAnswer,
    "declines": Sharing,
    "rate_limit": RateLimit,
    "webhooks": Parameters,
    "duplicate_webhooks": DuplicateWebhooks,
    "status_lags": StatusLags,
    "settlement_mistakes": SettlementMistakes,
    "workers": Workers,
}

P = TypeVar("P", bound=Parameters)


def log_normal_seconds(mean_ms: float, sigma: float, uniform: float) -> float:
    """The quantile `uniform` of the log-normal distribution with this mean."""
    if mean_ms == 0 or sigma == 0:
        return mean_ms / 1000
    location = math.log(mean_ms / 1000) - sigma * sigma / 2
    return math.exp(NormalDist(location, sigma).inv_cdf(min(max(uniform, 1e-9), 1 - 1e-9)))


@dataclass(slots=True)
class Behaviour(switches.Behaviour[Parameters]):
    """With what a call's draw and the rate limit need."""

    calls: int = 0
    tokens: float = 0.0
    refilled_at: float | None = None
    noted: set[str] = field(default_factory=set)

    def next_draw(self) -> float:
        """Of the next call."""
        self.calls += 1
        return draw(self.parameters.seed, self.name, self.calls)

    def note_once(self, reference: str) -> None:
        """As `note`, but the same thing seen again (a file fetched twice) is no further hit."""
        if reference not in self.noted:
            self.noted.add(reference)
            self.note(reference)


class Switchboard(switches.Switchboard[Behaviour]):
    """All behaviours of this bank. Everything is off at the start."""

    def __init__(self) -> None:
        super().__init__(KINDS, Behaviour)

    def parameters(self, name: str, kind: type[P]) -> tuple[Behaviour, P] | None:
        """The behaviour with its typed parameters, if it is on."""
        behaviour = self.active(name)
        if behaviour is None or not isinstance(behaviour.parameters, kind):
            return None
        return behaviour, behaviour.parameters

    def struck(self, name: str) -> Behaviour | None:
        """Draw for this call; the behaviour if the call is hit. The caller notes the hit when it takes effect."""
        found = self.parameters(name, Sharing)
        if found is None:
            return None
        behaviour, parameters = found
        return behaviour if behaviour.next_draw() < parameters.share else None

    def delay(self) -> tuple[Behaviour, float] | None:
        """How long this call is held up, seconds."""
        found = self.parameters("latency", Latency)
        if found is None:
            return None
        behaviour, parameters = found
        return behaviour, log_normal_seconds(parameters.mean_ms, parameters.sigma, behaviour.next_draw())

    def refused(self, now: float) -> Behaviour | None:
        """The rate limit, if it has no token left at `now` (monotonic seconds)."""
        found = self.parameters("rate_limit", RateLimit)
        if found is None:
            return None
        behaviour, parameters = found
        capacity = max(parameters.per_second, 1.0)
        if behaviour.refilled_at is None:
            behaviour.tokens = capacity
        else:
            earned = (now - behaviour.refilled_at) * parameters.per_second
            behaviour.tokens = min(capacity, behaviour.tokens + earned)
        behaviour.refilled_at = now
        if behaviour.tokens < 1:
            return behaviour
        behaviour.tokens -= 1
        return None
