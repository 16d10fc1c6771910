"""States, the retry schedule and the judgement of an attempt. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.patterns.retry import retry_after_seconds

ENDPOINT_DISABLED_EVENT = "webhooks.endpoint.disabled"
EXHAUSTED_EVENT = "webhooks.message.attempt.exhausted"
RECOVERED_EVENT = "webhooks.message.attempt.recovered"
OPERATIONAL_EVENTS = frozenset({ENDPOINT_DISABLED_EVENT, EXHAUSTED_EVENT, RECOVERED_EVENT})
"""About the delivery itself. Only endpoints that name them get them, and their own failures make no further ones."""

RECOVERED_AFTER = 4
"""Failed attempts after which a success is worth an event; Svix calls a message failing from its fourth on."""

EVERY_TYPE = "*"
"""Subscription to every event type but the operational ones."""


class DeliveryState(StrEnum):
    """One delivery is one message to one endpoint."""

    SCHEDULED = "scheduled"
    IN_FLIGHT = "in_flight"
    DELIVERED = "delivered"
    DEAD = "dead"


class DeadReason(StrEnum):
    """Why a delivery is in the dead letters. Each can be replayed."""

    EXHAUSTED = "exhausted"
    GONE = "gone"
    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_DELETED = "endpoint_deleted"
    BACKLOG_FULL = "backlog_full"


class AttemptOutcome(StrEnum):
    """INTERRUPTED: begun by a dispatcher that never told how it ended; the receiver may or may not have it."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"


class DisabledReason(StrEnum):
    """Who or what switched an endpoint off."""

    OWNER = "owner"
    GONE = "gone"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended. `status` if a status line came; `body` is the first 4 KiB of the answer, if they came in time."""

    outcome: AttemptOutcome
    status: int | None = None
    error: str | None = None
    body: bytes = b""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """`delays[n]` seconds pass before attempt n, counted from the failure of the one before; `delays[0]` from the message on.

    `jitter` spreads each delay by ± that share, so that an outage's retries do not come back as one wave.
    """

    delays: tuple[float, ...]
    jitter: float = 0.2
    retry_after_limit: float = 3600.0

    def after_failure(self, step: int, chance: random.Random) -> float | None:
        """Seconds until the attempt that follows attempt number `step` (from 0), None if that was the last."""
        following = step + 1
        if following >= len(self.delays):
            return None
        return self.delays[following] * chance.uniform(1 - self.jitter, 1 + self.jitter)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a delivery. `delay` is set for SCHEDULED only, `reason` for DEAD only.

    `pause` seconds the whole endpoint should be left alone, as it asked; `disable` switches it off.
    """

    state: DeliveryState
    delay: float | None = None
    reason: DeadReason | None = None
    pause: float = 0.0
    disable: bool = False


DELIVERED = Judgement(DeliveryState.DELIVERED)


def outcome_of(status: int) -> AttemptOutcome:
    """2xx is success, whatever the body does. 3xx is not followed and is a failure, like everything else."""
    return AttemptOutcome.DELIVERED if 200 <= status < 300 else AttemptOutcome.REFUSED


def judge(result: Result, step: int, schedule: Schedule, now: datetime, chance: random.Random) -> Judgement:
    """Standard Webhooks 1.0, "Deliverability and reliability": retry on a schedule, 410 ends it, Retry-After is a wish.

    `step` is the position in the schedule of the attempt that ended, from 0.
    """
    if result.outcome is AttemptOutcome.DELIVERED:
        return DELIVERED
    if result.status == 410:
        return Judgement(DeliveryState.DEAD, reason=DeadReason.GONE, disable=True)
    pause = 0.0
    if result.status in (429, 503):
        wished = retry_after_seconds(result.retry_after, now)
        pause = min(wished or 0.0, schedule.retry_after_limit)
    delay = schedule.after_failure(step, chance)
    if delay is None:
        return Judgement(DeliveryState.DEAD, reason=DeadReason.EXHAUSTED, pause=pause)
    return Judgement(DeliveryState.SCHEDULED, delay=max(delay, pause), pause=pause)
