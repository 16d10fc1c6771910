"""Circuit breaker: stop calling a dependency that mostly fails or is mostly slow, and find out gently when it is back.

Nygard, "Release It!" (2007). Judged by shares over a sliding window (Hystrix, resilience4j), since a few failures in a row
mean little under load and a failing dependency that answers now and then never shows them; half-open lets a bounded number
of probes through at a time, so that recovery is not met by a stampede. One breaker for each thing that fails by itself
(host, shard, tenant): see `KeyedBreakers`.

Nothing here waits, so within one event loop every method is atomic. Not thread-safe: give each thread its own, or a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeAlias

BUCKETS = 10
"""Parts of the window. It slides by a tenth of its length, in constant memory, whatever the rate of calls is."""


class State(IntEnum):
    """The numbers are what the gauge shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Reason(StrEnum):
    """Why a state was entered."""

    FAILURES = "failures"
    SLOW_CALLS = "slow_calls"
    OPEN_TIME_OVER = "open_time_over"
    PROBE_FAILED = "probe_failed"
    PROBE_SLOW = "probe_slow"
    PROBE_LOST = "probe_lost"
    PROBES_SUCCEEDED = "probes_succeeded"
    FORCED = "forced"
    RELEASED = "released"


class Ending(StrEnum):
    """How a call that had a permit ended. `ignored` says nothing about the dependency: a 4xx, a cancelled call."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SLOW = "slow"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Rule:
    """Opens when at least `minimum_calls` ended within `window_seconds` and `failure_share` of them or more failed.

    Likewise when `slow_share` of them or more took longer than `slow_seconds`, however they ended (None: time does not
    matter). After `open_seconds` up to `probes` calls at a time are let through; it closes once so many have succeeded in
    time, and opens again at the first that fails or is slow. A probe that has not come back after `probe_seconds` is taken
    for a failed one, so that a lost permit cannot hold the breaker for ever: make it longer than the call's timeout.
    """

    window_seconds: float = 5.0
    minimum_calls: int = 20
    failure_share: float = 0.5
    open_seconds: float = 1.0
    probes: int = 3
    slow_seconds: float | None = None
    slow_share: float = 0.5
    probe_seconds: float = 60.0

    def __post_init__(self) -> None:
        spans = (self.window_seconds, self.open_seconds, self.probe_seconds, self.minimum_calls, self.probes)
        if not min(spans) > 0:
            raise ValueError("window, minimum of calls, open time, probe time and probes are above zero")
        if self.slow_seconds is not None and not self.slow_seconds > 0:
            raise ValueError("slow_seconds is above zero")
        if not (0 < self.failure_share <= 1 and 0 < self.slow_share <= 1):
            raise ValueError("a share is above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Permit:
    """One call that may be made, from `began` (monotonic seconds) on. Give it back with its outcome."""

    epoch: int
    began: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What the window holds."""

    calls: int = 0
    failed: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class StateChanged:
    """`counts` are those of the window that was judged."""

    name: str
    before: State
    after: State
    reason: Reason
    counts: Counts


@dataclass(frozen=True, slots=True)
class CallRefused:
    """Somebody asked for a permit and got none."""

    name: str
    state: State


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A permit came back after so many seconds."""

    name: str
    ending: Ending
    seconds: float


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A keyed breaker was dropped to make room; metrics may drop its label too."""

    name: str


Event: TypeAlias = StateChanged | CallRefused | CallEnded | Forgotten
OnEvent: TypeAlias = Callable[[Event], None]
"""Called within the method that caused the event: it must neither block nor raise, nor call the breaker."""


def nobody(event: Event) -> None:
    """Who listens by default."""
    del event


class _Window:
    """Counts of the last `seconds`, in buckets: the newest is filling, the one that leaves is dropped whole."""

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self.clear()

    def clear(self) -> None:
        self._calls, self._failed, self._slow = [0] * BUCKETS, [0] * BUCKETS, [0] * BUCKETS
        self._newest: int | None = None

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        place = self._advance(now) % BUCKETS
        self._calls[place] += 1
        self._failed[place] += failed
        self._slow[place] += slow

    def counts(self, now: float) -> Counts:
        self._advance(now)
        return Counts(sum(self._calls), sum(self._failed), sum(self._slow))

    def _advance(self, now: float) -> int:
        number = int(now // self._width)
        if self._newest is None or number - self._newest >= BUCKETS:
            self.clear()
        else:
            for passed in range(self._newest + 1, number + 1):
                place = passed % BUCKETS
                self._calls[place] = self._failed[place] = self._slow[place] = 0
        self._newest = number if self._newest is None else max(self._newest, number)
        return self._newest


class Breaker:
    """One dependency's breaker. `clock` gives monotonic seconds; `name` stands in its events."""

    def __init__(self, rule: Rule, clock: Callable[[], float], *, name: str = "", on_event: OnEvent = nobody) -> None:
        self.name = name
        self._rule = rule
        self._clock = clock
        self._on_event = on_event
        self._state = State.CLOSED
        self._forced = False
        self._epoch = 0
        self._entered_at = clock()
        self._window = _Window(rule.window_seconds)
        self._probing: list[float] = []
        self._probed = 0

    @property
    def state(self) -> State:
        """Open turns into half-open by time alone, half-open into open when a probe is lost."""
        if self._forced:
            return self._state
        now = self._clock()
        if self._state is State.OPEN and now - self._entered_at >= self._rule.open_seconds:
            self._enter(State.HALF_OPEN, Reason.OPEN_TIME_OVER)
        elif self._probing and now - self._probing[0] >= self._rule.probe_seconds:
            self._enter(State.OPEN, Reason.PROBE_LOST)
        return self._state

    @property
    def forced(self) -> State | None:
        """What somebody has set it to by hand."""
        return self._state if self._forced else None

    @property
    def counts(self) -> Counts:
        """Of the window, as it is now; empty unless closed."""
        return self._window.counts(self._clock())

    @property
    def would_permit(self) -> bool:
        """Whether `acquire` would give a permit now. For a look ahead: it reserves nothing and is no refusal."""
        state = self.state
        return state is State.CLOSED or (state is State.HALF_OPEN and len(self._probing) < self._rule.probes)

    @property
    def retry_after(self) -> float:
        """Seconds until asking again makes sense: 0 if a permit can be had; unknown when it is forced, then `open_seconds`."""
        if self.would_permit:
            return 0.0
        if self._state is State.OPEN and not self._forced:
            return max(0.0, self._entered_at + self._rule.open_seconds - self._clock())
        return self._rule.open_seconds

    def acquire(self) -> Permit | None:
        """A permit, or None: do not call now."""
        if not self.would_permit:
            self._on_event(CallRefused(self.name, self._state))
            return None
        now = self._clock()
        if self._state is State.HALF_OPEN:
            self._probing.append(now)
        return Permit(self._epoch, now)

    def redeem(self, permit: Permit) -> Permit | None:
        """For a permit that was taken some time before its call: the time of the call begins now.

        A permit from before the last change of state is worth nothing any more: then as `acquire`.
        """
        if self.state is State.HALF_OPEN and permit.epoch == self._epoch:
            self._probing.remove(permit.began)
        return self.acquire()

    def release(self, permit: Permit, succeeded: bool | None) -> None:
        """Tell how the call ended; None if that says nothing about the dependency: it was cancelled, it answered 4xx.

        A 4xx counts for nothing rather than for a success: bad requests are often refused before what is broken is touched,
        and would thin out the failures. A call that began before the last change of state tells of the past and is not
        counted either.
        """
        now = self._clock()
        slow = self._rule.slow_seconds is not None and now - permit.began > self._rule.slow_seconds
        self._on_event(CallEnded(self.name, _ending(succeeded, slow), now - permit.began))
        if permit.epoch != self._epoch or self._forced:
            return
        if self._state is State.HALF_OPEN:
            self._probing.remove(permit.began)
            if succeeded is not None:
                self._judge_probe(succeeded, slow)
        elif succeeded is not None:
            self._window.add(now, failed=not succeeded, slow=slow)
            if slow or not succeeded:
                self._judge_window(now)

    def force(self, state: State | None) -> None:
        """Hold it open or closed by hand until None gives it back to its rule, closed and with an empty window.

        Raises ValueError for half-open, which is nothing to hold.
        """
        if state is State.HALF_OPEN:
            raise ValueError("a breaker is forced open or closed, not half-open")
        if state is None and not self._forced:
            return
        self._forced = state is not None
        self._enter(State.CLOSED if state is None else state, Reason.RELEASED if state is None else Reason.FORCED)

    def _judge_probe(self, succeeded: bool, slow: bool) -> None:
        if not succeeded or slow:
            self._enter(State.OPEN, Reason.PROBE_SLOW if succeeded else Reason.PROBE_FAILED)
            return
        self._probed += 1
        if self._probed >= self._rule.probes:
            self._enter(State.CLOSED, Reason.PROBES_SUCCEEDED)

    def _judge_window(self, now: float) -> None:
        counts = self._window.counts(now)
        if counts.calls < self._rule.minimum_calls:
            return
        if counts.failed >= self._rule.failure_share * counts.calls:
            self._enter(State.OPEN, Reason.FAILURES)
        elif counts.slow >= self._rule.slow_share * counts.calls:
            self._enter(State.OPEN, Reason.SLOW_CALLS)

    def _enter(self, state: State, reason: Reason) -> None:
        before, counts = self._state, self.counts
        self._state = state
        self._epoch += 1
        self._entered_at = self._clock()
        self._window.clear()
        self._probing.clear()
        self._probed = 0
        self._on_event(StateChanged(self.name, before, state, reason, counts))


def _ending(succeeded: bool | None, slow: bool) -> Ending:
    if succeeded is None:
        return Ending.IGNORED
    if not succeeded:
        return Ending.FAILED
    return Ending.SLOW if slow else Ending.SUCCEEDED


class KeyedBreakers:
    """A breaker for each host, shard or tenant, so that one that is dead does not take the others down.

    At most `most_keys` (1 or more) are kept. For a further one the longest unused is forgotten, a closed one first: what
    has not been called for long is the least loss, and a forgotten open one costs `minimum_calls` failures to learn again.
    What was forced by hand is never forgotten.
    """

    def __init__(
        self, rule: Rule, clock: Callable[[], float], *, most_keys: int = 1000, on_event: OnEvent = nobody
    ) -> None:
        if most_keys < 1:
            raise ValueError("most_keys is at least 1")
        self._rule = rule
        self._clock = clock
        self._most_keys = most_keys
        self._on_event = on_event
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()

    def __iter__(self) -> Iterator[Breaker]:
        """All that are kept, the longest unused first."""
        return iter(tuple(self._breakers.values()))

    def __len__(self) -> int:
        return len(self._breakers)

    def of(self, key: str) -> Breaker:
        """The key's breaker; a new one is closed. Give a permit back to the breaker that it is from.

        Raises KeysExhausted when every place is taken by a breaker that was forced by hand.
        """
        breaker = self._breakers.get(key)
        if breaker is not None:
            self._breakers.move_to_end(key)
            return breaker
        if len(self._breakers) >= self._most_keys:
            self._forget_one()
        breaker = Breaker(self._rule, self._clock, name=key, on_event=self._on_event)
        self._breakers[key] = breaker
        return breaker

    def _forget_one(self) -> None:
        fallback: Breaker | None = None
        for breaker in self._breakers.values():
            if breaker.forced is not None:
                continue
            if breaker.state is State.CLOSED:
                break
            fallback = fallback or breaker
        else:
            if fallback is None:
                raise KeysExhausted(f"all {self._most_keys} breakers are forced by hand")
            breaker = fallback
        del self._breakers[breaker.name]
        self._on_event(Forgotten(breaker.name))


class KeysExhausted(Exception):
    """There is no room for another key: somebody has forced them all."""
