"""Retries that help one caller without sinking the server: only what is safe, with full jitter, within a budget.

The budget bounds what all retries of a client may add, whatever fails: Finagle's RetryBudget, gRPC retry throttling
(gRFC A6), SRE book chapter 22 ("a per-client retry budget ... 10%").
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from services.patterns.backoff import Backoff
from services.patterns.deadline import Deadline


class Safety(Enum):
    """What sending a call a second time does."""

    IDEMPOTENT = "idempotent"
    """It reads, or sets to a value: no second effect by its nature."""
    UNKNOWN_SAFE = "unknown_safe"
    """It carries an idempotency key or a reference that the server honours: an unknown outcome may be asked again."""
    ONCE = "once"
    """It may have a second effect. Never sent again."""


class RetryBudget:
    """A token bucket: each call pays in `ratio`, time pays in `reserve_per_second`, each retry takes one out.

    So retries <= initial + ratio * calls + reserve_per_second * seconds, in every interval after the bucket was empty.
    `most` bounds what quiet times save up. One budget for all call sites of a client; one event loop, not thread-safe.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        ratio: float = 0.1,
        reserve_per_second: float = 0.5,
        initial: float = 5.0,
        most: float = 50.0,
    ) -> None:
        if not (0 <= ratio <= 1 and reserve_per_second >= 0 and 0 <= initial <= most):
            raise ValueError("a retry budget needs 0 <= ratio <= 1, reserve >= 0 and 0 <= initial <= most")
        self._clock = clock
        self._ratio = ratio
        self._reserve = reserve_per_second
        self._most = most
        self._tokens = initial
        self._at = clock()

    @property
    def tokens(self) -> float:
        """Retries that could be made now."""
        self._refill()
        return self._tokens

    def deposit(self) -> None:
        """A call (not a retry) has begun."""
        self._refill()
        self._tokens = min(self._most, self._tokens + self._ratio)

    def withdraw(self) -> bool:
        """Take the token of one retry, if there is one."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._most, self._tokens + self._reserve * max(0.0, now - self._at))
        self._at = now


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` in all, the first included."""

    attempts: int
    backoff: Backoff

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("there is at least one attempt")


class Stop(Enum):
    """Why a call is not sent again. The values are metric labels."""

    UNSAFE = "unsafe"
    ATTEMPTS = "attempts"
    DEADLINE = "deadline"
    BUDGET = "budget"
    BREAKER = "breaker"


def next_try(
    policy: RetryPolicy,
    safety: Safety,
    attempt: int,
    *,
    budget: RetryBudget,
    deadline: Deadline,
    chance: random.Random,
    retry_after: float | None = None,
    worth_seconds: float = 0.0,
) -> float | Stop:
    """Seconds to wait before the next try, or why there is none. `attempt` is the number of the one that failed, from 0.

    The server's `retry_after` (seconds) is a floor under the jittered delay. A wait that would leave less than
    `worth_seconds` of the deadline for the try itself is no retry. The budget's token is taken last, so that it is not
    spent on a try that is not made.
    """
    if safety is Safety.ONCE:
        return Stop.UNSAFE
    if attempt + 1 >= policy.attempts:
        return Stop.ATTEMPTS
    delay = policy.backoff.delay(attempt, chance)
    if retry_after is not None:
        # Everybody was told the same second; the jitter goes on top so that they do not come back as one.
        delay += max(0.0, retry_after)
    if delay + worth_seconds >= deadline.remaining():
        return Stop.DEADLINE
    return delay if budget.withdraw() else Stop.BUDGET


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """`Retry-After` as seconds from `now` (RFC 9110, 10.2.3: whole seconds or an HTTP date); None if absent or garbage.

    A date in the past is 0.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9]) if len(text) <= 9 else float("inf")
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(0.0, (instant - now).total_seconds())
