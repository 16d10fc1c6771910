"""Open-model pacing: arrivals follow a schedule drawn from the seed, whatever the system does with them.

A closed loop (send, wait, send) slows down together with the system that it measures and hides the stall: "coordinated
omission", Gil Tene, How NOT to Measure Latency (2015). Here latency counts from the intended send time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import gevent
from gevent.event import Event
from gevent.pool import Group

LEAD_SECONDS = 0.5
"""From the start to the schedule's zero, so that the generator's own start does not make the first arrivals late."""
YIELD_EVERY = 50
"""Behind schedule, the dispatcher lets others run at least after so many arrivals."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The nth operation (from 0) and when it is due, in seconds on the monotonic clock."""

    number: int
    intended_at: float


def schedule(rate: float, seed: int, times: Callable[[], float] = lambda: 1.0) -> Iterator[float]:
    """Seconds from the start to each arrival: exponential gaps of mean 1 / rate (a Poisson process), without end.

    `times` multiplies the rate; it is asked before each gap, so that a load may grow while it lasts.
    """
    gaps = random.Random(seed)
    at = 0.0
    while True:
        at += gaps.expovariate(rate) / times()
        yield at


class OpenModel:
    """Starts one greenlet per arrival. `operate` runs the operation; `refuse` is told of an arrival beyond the cap."""

    def __init__(
        self,
        *,
        rate: float,
        seed: int,
        seconds: float,
        max_in_flight: int,
        operate: Callable[[Arrival], None],
        refuse: Callable[[Arrival], None],
        times: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._rate = rate
        self._seed = seed
        self._seconds = seconds
        self._max_in_flight = max_in_flight
        self._operate = operate
        self._refuse = refuse
        self._times = times
        self._running = Group()
        self._stopped = Event()

    @property
    def in_flight(self) -> int:
        """Operations begun and not ended."""
        return len(self._running)

    def run(self) -> None:
        """Dispatch until `seconds` are over or `stop` is called; does not wait for what is in flight."""
        started = time.monotonic() + LEAD_SECONDS
        for number, offset in zip(count(), schedule(self._rate, self._seed, self._times), strict=False):
            if offset > self._seconds:
                self._stopped.wait(max(0.0, started + self._seconds - time.monotonic()))
                return
            self._wait_until(started + offset, number)
            if self._stopped.is_set():
                return
            self._dispatch(Arrival(number, started + offset))

    def _wait_until(self, moment: float, number: int) -> None:
        ahead = moment - time.monotonic()
        if ahead > 0:
            self._stopped.wait(ahead)
        elif number % YIELD_EVERY == 0:
            gevent.sleep(0)

    def _dispatch(self, arrival: Arrival) -> None:
        if self.in_flight >= self._max_in_flight:
            self._refuse(arrival)
        else:
            self._running.spawn(self._operate, arrival)

    def stop(self) -> None:
        """No arrival is dispatched from now on."""
        self._stopped.set()

    def drain(self, seconds: float) -> int:
        """Wait at most so long for what is in flight; end the rest and return how many that were."""
        self._running.join(timeout=seconds)
        left = self.in_flight
        self._running.kill()
        return left
