"""Leadership by lease, with an epoch (fencing token) that grows with every change of hands.

Gray and Cheriton, "Leases" (SOSP 1989); Chubby (Burrows, OSDI 2006) calls the epoch a sequencer; Kleppmann, "How to do
distributed locking" (2016), why a lease alone protects nothing.

Three rules make it as safe as a lease can be:

- The *store's* clock decides when a lease has expired. No two machines need to agree on the time.
- The holder counts its validity on its own monotonic clock, from *before* it asked: the store can only have begun later, so
  the holder stops before the store lets somebody else in.
- It renews after a third of the time, so that two renewals may be lost.

What they can't do: a holder that is paused after it looked at its lease, and before it acts, acts too late. So the epoch goes
along with every effect, and whatever the effect changes refuses an epoch below the highest it has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

DRIFT = 0.01
"""How much faster the store's clock may run than ours, as a share of the lease."""
SHORTEST_PAUSE = 0.005
"""Seconds. Clocks that differ a little must not make who waits ask in a circle."""
RENEWALS = 3
"""Tries to renew within one lease."""


def admits(highest: int, epoch: int) -> bool:
    """The fence at the target: whether an effect of `epoch` may happen where `highest` has been seen.

    Look and act in one transaction; then `highest` becomes `epoch`.
    """
    return epoch >= highest


class LeaseUnavailable(Exception):
    """The store cannot be asked, or did not answer in time. Whether it did what it was asked is not known."""


class LeaseLost(Exception):
    """The lease is somebody else's, or may be by now."""


class LeaseStore(Protocol):
    """Where leases are kept. Every method is one atomic step of the store and raises LeaseUnavailable.

    Durations are seconds on the store's clock. A holder is one incarnation of a process, never two.
    """

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """Take a lease that is free, expired, or the holder's own. Its new epoch, greater than any before; None: held."""

    async def remaining(self, name: str) -> float:
        """Seconds until it can be taken if nobody renews it; 0 or less if it is free. A hint for who waits."""

    async def renew(self, name: str, holder: str, epoch: int, seconds: float) -> bool:
        """Begin the duration anew. False if it is not the holder's under this epoch any more."""

    async def release(self, name: str, holder: str, epoch: int) -> None:
        """Let the next one in at once. Nothing happens if it is not the holder's under this epoch any more."""


class Lease:
    """A lease that is held. `epoch` never changes; losing and taking it again gives another Lease."""

    def __init__(self, epoch: int, seconds: float, asked_at: float, clock: Callable[[], float]) -> None:
        self.epoch = epoch
        self.seconds = seconds
        self._clock = clock
        self._asked_at = asked_at

    def remaining(self) -> float:
        """Seconds for which it is ours for sure; 0 when it may not be."""
        return max(0.0, self._asked_at + self.seconds * (1 - DRIFT) - self._clock())

    def valid(self) -> bool:
        """Ask before every effect. It may be over by the time of the effect: hence the epoch."""
        return self.remaining() > 0

    def renew_in(self) -> float:
        """Seconds until a renewal is due."""
        return max(0.0, self._asked_at + self.seconds / RENEWALS - self._clock())

    def renewed(self, asked_at: float) -> None:
        """The store agreed to a renewal that was sent at `asked_at`."""
        self._asked_at = max(self._asked_at, asked_at)


class LeaseKeeper:
    """Takes a lease and keeps it. `on_failure` is called for each renewal without an answer, for a metric."""

    def __init__(
        self,
        store: LeaseStore,
        name: str,
        holder: str,
        seconds: float,
        clock: Callable[[], float],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        if seconds <= 0:
            raise ValueError("a lease lasts for more than 0 seconds")
        self._store = store
        self.name = name
        self.holder = holder
        self.seconds = seconds
        self._clock = clock
        self._on_failure = on_failure

    async def acquire(self) -> Lease | None:
        """The lease if it could be had. Raises LeaseUnavailable.

        None also if the answer came so late that nothing is left of it.
        """
        asked_at = self._clock()
        epoch = await self._ask_acquire()
        if epoch is None:
            return None
        lease = Lease(epoch, self.seconds, asked_at, self._clock)
        return lease if lease.valid() else None

    async def _ask_acquire(self) -> int | None:
        try:
            async with asyncio.timeout(self.seconds):
                return await self._store.acquire(self.name, self.holder, self.seconds)
        except TimeoutError:
            raise LeaseUnavailable("no answer") from None

    async def pause(self, at_most: float) -> float:
        """Seconds to wait before asking for it again: until it ends, but `at_most`. Raises LeaseUnavailable.

        Asking at fixed intervals costs half an interval of every failover.
        """
        try:
            async with asyncio.timeout(self.seconds):
                left = await self._store.remaining(self.name)
        except TimeoutError:
            raise LeaseUnavailable("no answer") from None
        return min(at_most, max(SHORTEST_PAUSE, left))

    async def keep(self, lease: Lease) -> None:
        """Renew until cancelled. Raises LeaseLost when the store says so, or when it was silent for too long."""
        pause = self.seconds / RENEWALS / 5
        while True:
            await asyncio.sleep(lease.renew_in())
            asked_at = self._clock()
            try:
                async with asyncio.timeout(min(lease.remaining(), self.seconds / RENEWALS)):
                    held = await self._store.renew(self.name, self.holder, lease.epoch, self.seconds)
            except (LeaseUnavailable, TimeoutError):
                self._on_failure()
                if not lease.valid():
                    raise LeaseLost("the store was silent for too long") from None
                await asyncio.sleep(min(pause, lease.remaining()))
                continue
            if not held:
                raise LeaseLost("somebody else has it")
            lease.renewed(asked_at)

    async def release(self, lease: Lease, within: float = 1.0) -> bool:
        """Give it back, so that a successor need not wait for its end. False if the store could not be asked."""
        try:
            async with asyncio.timeout(within):
                await self._store.release(self.name, self.holder, lease.epoch)
        except (LeaseUnavailable, TimeoutError):
            return False
        return True


class MemoryLeases:
    """The rules of a LeaseStore in memory, for tests: one dict, one clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, int, float]] = {}

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """As LeaseStore."""
        owner, epoch, expires = self._held.get(name, ("", 0, 0.0))
        if owner and owner != holder and expires > self._clock():
            return None
        self._held[name] = (holder, epoch + 1, self._clock() + seconds)
        return epoch + 1

    async def remaining(self, name: str) -> float:
        """As LeaseStore."""
        return self._held.get(name, ("", 0, 0.0))[2] - self._clock()

    async def renew(self, name: str, holder: str, epoch: int, seconds: float) -> bool:
        """As LeaseStore. A lease that expired and that nobody took may still be renewed."""
        owner, current, _ = self._held.get(name, ("", 0, 0.0))
        if (owner, current) != (holder, epoch):
            return False
        self._held[name] = (holder, epoch, self._clock() + seconds)
        return True

    async def release(self, name: str, holder: str, epoch: int) -> None:
        """As LeaseStore."""
        owner, current, _ = self._held.get(name, ("", 0, 0.0))
        if (owner, current) == (holder, epoch):
            self._held[name] = ("", epoch, 0.0)
