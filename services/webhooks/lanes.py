"""Who may be attempted now: a lane an endpoint, so that one that hangs holds its own few slots and nobody else's.

Two pools. Lanes that answer (trusted) share `slots - slow_slots`; those of which nothing is known yet, and those that time
out (suspect), share `slow_slots`, of which suspects leave a quarter to the unknown. A lane begins with one attempt at a time,
doubles with each success up to its bound, and falls back to one when an attempt times out (slow start and multiplicative
decrease, as TCP has them). A suspect that times out again rests, twice as long each time, so that any number of them hold
few slots: with 15 s an attempt and a rest of 300 s each holds a twentieth of one.

Pure: no I/O; time comes as an argument, in monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Generic, TypeVar

from services.patterns.token_bucket import TokenBucket

K = TypeVar("K", bound=Hashable)

IDLE_SECONDS = 600.0
"""A lane without work for so long begins anew: endpoints come and go, and what they were is not kept for ever."""
RESERVED_PART = 4
"""The unknown have a quarter of the slow slots for themselves."""


class Standing(IntEnum):
    """What is known of a lane: it answered the last time, nothing, or it did not answer in time."""

    TRUSTED = auto()
    UNKNOWN = auto()
    SUSPECT = auto()


@dataclass(frozen=True, slots=True)
class Rest:
    """Seconds of quiet after the nth timeout in a row: none after the first, which may be chance, then `first`, doubling."""

    first: float
    limit: float

    def after(self, timeouts: int) -> float:
        """0 to `limit`."""
        if timeouts < 2:
            return 0.0
        return float(min(self.first * 2 ** min(timeouts - 2, 30), self.limit))


@dataclass(slots=True)
class Lane:
    """`window` is what it may have in flight now, `bound` what it may ever have. `began` holds the open attempts, oldest first.

    `timeouts` are in a row; those that were open together count once, as of `counted_at`.
    """

    bound: int
    bucket: TokenBucket | None = None
    rate: int | None = None
    window: int = 1
    standing: Standing = Standing.UNKNOWN
    timeouts: int = 0
    counted_at: float = float("-inf")
    paused_until: float = 0.0
    idle_since: float | None = None
    began: dict[object, float] = field(default_factory=dict)


class Lanes(Generic[K]):
    """Not thread-safe; one event loop."""

    def __init__(self, *, slots: int, slow_slots: int, bound: int, slow_after: float, rest: Rest) -> None:
        if not 0 < slow_slots < slots:
            raise ValueError("slow_slots is at least 1 and less than slots")
        self._slots = slots
        self._slow_slots = slow_slots
        self._reserve = slow_slots // RESERVED_PART
        self._rest = rest
        self._bound = bound
        self._slow_after = slow_after
        self._now = 0.0
        self._lanes: dict[K, Lane] = {}
        self._ready: dict[K, None] = {}
        self._held = dict.fromkeys(Standing, 0)
        self._owed = 0

    @property
    def in_flight(self) -> int:
        """Attempts under way, and outcomes that are not durable yet."""
        return sum(self._held.values()) + self._owed

    @property
    def known(self) -> int:
        """Lanes that are remembered."""
        return len(self._lanes)

    @property
    def slow(self) -> int:
        """Of these, held by lanes that do not answer, or never yet did."""
        return self._held[Standing.UNKNOWN] + self._held[Standing.SUSPECT]

    def ready(self, key: K, rate: int | None, bound: int | None, now: float, *, failing: bool = False) -> None:
        """There is work for this lane, under these bounds (None: the default).

        `failing` is what was known before this process began: such a lane does not take a place of those that are unknown.
        """
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lane(key)
            lane.standing = Standing.SUSPECT if failing else Standing.UNKNOWN
        lane.bound = bound or self._bound
        lane.window = min(lane.window, lane.bound)
        if lane.rate != rate:
            self._now = now
            lane.rate = rate
            lane.bucket = None if rate is None else TokenBucket(rate, max(rate / 4, 1), lambda: self._now)
        self._ready[key] = None

    def unwanted(self, key: K) -> None:
        """There is no work for this lane any more, until it is `ready` again."""
        self._ready.pop(key, None)

    def plan(self, now: float, limit: int) -> dict[K, int]:
        """How many to claim for which lane, `limit` in all. Lanes that are not served go first the next time."""
        self._now = now
        free = min(limit, self._slots - self.in_flight)
        held = self._held
        unproven = self._slow_slots - self.slow
        room = {
            Standing.TRUSTED: self._slots - self._slow_slots - held[Standing.TRUSTED],
            Standing.UNKNOWN: unproven,
            Standing.SUSPECT: min(unproven, self._slow_slots - self._reserve - held[Standing.SUSPECT]),
        }
        chosen: dict[K, int] = {}
        for key in self._ready:
            if free <= 0:
                break
            lane = self._lanes[key]
            wanted = min(self._room(lane, now), room[lane.standing], free)
            if wanted <= 0:
                continue
            chosen[key] = wanted
            free -= wanted
            room[lane.standing] -= wanted
            if lane.standing is Standing.SUSPECT:
                room[Standing.UNKNOWN] -= wanted
            elif lane.standing is Standing.UNKNOWN:
                room[Standing.SUSPECT] = min(room[Standing.SUSPECT], room[Standing.UNKNOWN])
        for key in chosen:
            self._ready[key] = self._ready.pop(key)
        return chosen

    @staticmethod
    def _room(lane: Lane, now: float) -> int:
        if lane.paused_until > now:
            return 0
        room = lane.window - len(lane.began)
        return room if lane.bucket is None else min(room, lane.bucket.available)

    def claimed(self, key: K, wanted: int, got: int) -> None:
        """A claim brought fewer than wanted: the lane has no more work for now."""
        lane = self._lane(key)
        if lane.bucket is not None:
            lane.bucket.take(got)
        if got < wanted:
            self._ready.pop(key, None)

    def begin(self, key: K, attempt: object, now: float) -> None:
        """An attempt holds a slot from here on. The lane may have been forgotten while the claim was under way."""
        lane = self._lane(key)
        lane.began[attempt] = now
        self._held[lane.standing] += 1

    def end(self, key: K, attempt: object, now: float, *, well: bool | None) -> None:
        """It is over. True: delivered. False: timed out. None: answered, but not as we wish.

        The slot stays held until `durable`, so that what is in flight bounds what a kill may send twice.
        """
        lane = self._lanes[key]
        began = lane.began.pop(attempt)
        self._held[lane.standing] -= 1
        self._owed += 1
        if well is False:
            self._suspect(lane)
            if began >= lane.counted_at:
                lane.timeouts += 1
                lane.counted_at = now
                self.pause(key, now + self._rest.after(lane.timeouts))
            return
        lane.window = min(lane.window * 2, lane.bound) if well else max(lane.window // 2, 1)
        lane.timeouts = 0
        self._move(lane, Standing.TRUSTED)

    def durable(self, attempts: int) -> None:
        """So many outcomes are committed."""
        self._owed -= attempts

    def pause(self, key: K, until: float) -> None:
        """Leave the lane alone; it asked for it."""
        lane = self._lanes[key]
        lane.paused_until = max(lane.paused_until, until)

    def tick(self, now: float) -> None:
        """Notice lanes whose oldest attempt takes too long, and forget those that are idle."""
        idle: list[K] = []
        for key, lane in self._lanes.items():
            oldest = next(iter(lane.began.values()), None)
            if oldest is None:
                if key in self._ready or lane.paused_until > now:
                    lane.idle_since = None
                elif lane.bucket is None and lane.window == 1 and not lane.timeouts:
                    idle.append(key)
                elif lane.idle_since is None:
                    lane.idle_since = now
                elif now - lane.idle_since >= IDLE_SECONDS:
                    idle.append(key)
                continue
            lane.idle_since = None
            if now - oldest >= self._slow_after:
                self._suspect(lane)
        for key in idle:
            del self._lanes[key]

    def _lane(self, key: K) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(self._bound)
        return lane

    def _suspect(self, lane: Lane) -> None:
        lane.window = 1
        self._move(lane, Standing.SUSPECT)

    def _move(self, lane: Lane, standing: Standing) -> None:
        self._held[lane.standing] -= len(lane.began)
        self._held[standing] += len(lane.began)
        lane.standing = standing
