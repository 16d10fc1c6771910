"""Deadlines: how much longer somebody waits for an answer, passed on from hop to hop.

HTTP carries the *remaining* whole milliseconds in `Request-Timeout-Ms`, so that no two clocks need to agree (gRPC does the
same with `grpc-timeout`); Kafka carries the instant (CloudEvents `expirytime`), since a message may lie for hours.
SRE book, chapter 22, "Latency and Deadlines".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

HEADER = "Request-Timeout-Ms"
WIRE_MARGIN_SECONDS = 0.02
"""Taken off at each hop for the wire and for the caller's own work with the answer."""

_WHOLE = re.compile(r"-?[0-9]+")
_MOST_DIGITS = 15
"""Beyond this any service's maximum has long been passed; `int` need not read it."""


class DeadlineMalformed(ValueError):
    """The header is not one whole number of milliseconds."""


class DeadlineExceeded(Exception):
    """No time is left."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a service grants, in seconds: `default` to callers that name no time, `maximum` to those that want too much."""

    default: float
    maximum: float

    def __post_init__(self) -> None:
        if not 0 < self.default <= self.maximum:
            raise ValueError("a budget needs 0 < default <= maximum, in seconds")


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """An instant on this process's monotonic clock. `clock` gives monotonic seconds."""

    at: float
    clock: Callable[[], float] = field(default=time.monotonic, compare=False, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """`seconds` from now."""
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - self.clock())

    @property
    def over(self) -> bool:
        """Nobody waits any more."""
        return self.remaining() <= 0

    def within(self, seconds: float) -> float:
        """A timeout: `seconds`, or what is left if that is less."""
        return min(seconds, self.remaining())

    def earlier(self, seconds: float) -> Deadline:
        """What to grant a call after which `seconds` of own work remain (a commit, the answer)."""
        return Deadline(self.at - seconds, self.clock)

    def header(self, margin: float = WIRE_MARGIN_SECONDS) -> str:
        """The value for the next hop: what is left less the margin. Raises DeadlineExceeded if that is nothing."""
        milliseconds = int((self.remaining() - margin) * 1000)
        if milliseconds < 1:
            raise DeadlineExceeded
        return str(milliseconds)

    def expiry(self, now: datetime) -> datetime:
        """The same instant on the wall clock, for `expirytime`. `now` is timezone-aware."""
        return now + timedelta(seconds=self.remaining())


def received(values: list[str], budget: Budget, clock: Callable[[], float] = time.monotonic) -> Deadline:
    """The deadline of a request with these header values.

    None: the default. Zero or less: DeadlineExceeded, at once. More than the maximum: the maximum. Anything but one whole
    number: DeadlineMalformed.
    """
    if not values:
        return Deadline.after(budget.default, clock)
    if len(values) > 1 or not (values[0].isascii() and _WHOLE.fullmatch(values[0])):
        raise DeadlineMalformed
    text = values[0]
    if text.startswith("-") or not text.strip("0"):
        raise DeadlineExceeded
    seconds = budget.maximum if len(text.lstrip("0")) > _MOST_DIGITS else int(text) / 1000
    return Deadline.after(min(seconds, budget.maximum), clock)


class MessageKind(Enum):
    """A COMMAND asks for something, which may be useless later. A FACT has happened, and stays true for ever."""

    COMMAND = "command"
    FACT = "fact"


class Handling(Enum):
    """What a consumer does with a message. DROP: count it, commit the offset, do nothing."""

    PROCESS = "process"
    DROP = "drop"


def handling(kind: MessageKind, expirytime: str | None, now: datetime) -> Handling:
    """Drop commands whose `expirytime` has passed; never a fact such as `captured`, whatever its producer wrote.

    Raises DeadlineMalformed for a command whose `expirytime` is not RFC 3339 with an offset: poison, for the DLQ.
    `now` is timezone-aware wall time; the producer's clock may be off, so commands should live for seconds, not for
    milliseconds.
    """
    if kind is MessageKind.FACT or expirytime is None:
        return Handling.PROCESS
    return Handling.DROP if read_expiry(expirytime) <= now else Handling.PROCESS


def read_expiry(text: str) -> datetime:
    """An RFC 3339 instant in UTC. Raises DeadlineMalformed."""
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None or "T" not in text.upper():
            raise DeadlineMalformed
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise DeadlineMalformed from None
