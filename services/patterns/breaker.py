"""Circuit breaker: stop calling a dependency that mostly fails, and find out gently when it is back.

Nygard, "Release It!" (2007). Judged by the share of failures in a sliding window, since a few failures in a row mean little
under load; half-open lets a bounded number of probes through at a time, so that recovery is not met by a stampede.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """The numbers are what the gauge shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """Opens when at least `minimum_calls` ended within `window_seconds` and `failure_share` of them or more failed.

    After `open_seconds` up to `probes` calls at a time are let through; it closes once so many have succeeded, and opens
    again at the first that fails.
    """

    window_seconds: float = 5.0
    minimum_calls: int = 20
    failure_share: float = 0.5
    open_seconds: float = 1.0
    probes: int = 3

    def __post_init__(self) -> None:
        if min(self.window_seconds, self.open_seconds, self.minimum_calls, self.probes) <= 0:
            raise ValueError("window, minimum of calls, open time and probes are above zero")
        if not 0 < self.failure_share <= 1:
            raise ValueError("failure_share is above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Permit:
    """One call that may be made. Give it back with its outcome."""

    epoch: int


class Breaker:
    """Not thread-safe; one event loop. `clock` gives monotonic seconds."""

    def __init__(self, rule: Rule, clock: Callable[[], float]) -> None:
        self._rule = rule
        self._clock = clock
        self._state = State.CLOSED
        self._epoch = 0
        self._opened_at = 0.0
        self._ended: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._probing = 0
        self._probed = 0

    @property
    def state(self) -> State:
        """Open turns into half-open by time alone."""
        if self._state is State.OPEN and self._clock() - self._opened_at >= self._rule.open_seconds:
            self._enter(State.HALF_OPEN)
        return self._state

    def acquire(self) -> Permit | None:
        """A permit, or None: do not call now."""
        state = self.state
        if state is State.OPEN:
            return None
        if state is State.HALF_OPEN:
            if self._probing >= self._rule.probes:
                return None
            self._probing += 1
        return Permit(self._epoch)

    def release(self, permit: Permit, succeeded: bool | None) -> None:
        """Tell how the call ended; None if that says nothing about the dependency (cancelled, for example).

        A call that began before the last change of state is not counted: it tells of the past.
        """
        if permit.epoch != self._epoch:
            return
        if self._state is State.HALF_OPEN:
            self._probing -= 1
            if succeeded is not None:
                self._judge_probe(succeeded)
        elif succeeded is not None:
            self._judge_window(succeeded)

    def _judge_probe(self, succeeded: bool) -> None:
        if not succeeded:
            self._enter(State.OPEN)
            return
        self._probed += 1
        if self._probed >= self._rule.probes:
            self._enter(State.CLOSED)

    def _judge_window(self, succeeded: bool) -> None:
        now = self._clock()
        self._ended.append((now, succeeded))
        self._failures += not succeeded
        while self._ended and self._ended[0][0] <= now - self._rule.window_seconds:
            self._failures -= not self._ended.popleft()[1]
        calls = len(self._ended)
        if not succeeded and calls >= self._rule.minimum_calls and self._failures >= self._rule.failure_share * calls:
            self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self._epoch += 1
        self._opened_at = self._clock()
        self._ended.clear()
        self._failures = self._probing = self._probed = 0
