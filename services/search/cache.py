"""Answers that are remembered: bounded by bytes, least recently used out first, of one generation of the index each.

What is of an earlier generation, or older than its time, is no hit; but while it is here it can be shown, marked, when the
engine cannot answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from services.patterns import early_expiration

ENTRY_BYTES = 400
"""What an entry takes besides its body, about."""
LARGEST_SHARE = 8
"""No body above an eighth of the bound is kept: one answer must not push out all others."""


class Freshness(StrEnum):
    """What was found. EARLY: good, but this reader had better make it anew, see patterns.early_expiration."""

    HIT = "hit"
    EARLY = "early"
    STALE = "stale"
    MISS = "miss"


@dataclass(frozen=True, slots=True)
class Found:
    """`body` is empty for a MISS."""

    freshness: Freshness
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Entry:
    body: bytes
    generation: str
    expires_at: float
    cost: float


_MISS = Found(Freshness.MISS)


class Cache:
    """`ttl` and `stale` in seconds: hits, and what is shown at need, at most so old. `clock` is monotonic."""

    def __init__(
        self, limit: int, ttl: float, *, jitter: float, stale: float, clock: Callable[[], float], random: Random
    ) -> None:
        self._limit = limit
        self._ttl = ttl
        self._jitter = jitter
        self._stale = stale
        self._clock = clock
        self._random = random
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, generation: str, key: Hashable) -> Found:
        """What is remembered for `key`, as of this generation of the index."""
        entry = self._entries.get(key)
        if entry is None:
            return _MISS
        now = self._clock()
        if now - entry.expires_at > self._stale:
            self._drop(key)
            return _MISS
        self._entries.move_to_end(key)
        if entry.generation != generation or now >= entry.expires_at:
            return Found(Freshness.STALE, entry.body)
        early = early_expiration.due(now, entry.expires_at, entry.cost, 1 - self._random.random())
        return Found(Freshness.EARLY if early else Freshness.HIT, entry.body)

    def put(self, generation: str, key: Hashable, body: bytes, *, cost: float) -> None:
        """Remember an answer that took `cost` seconds; what is least used makes room."""
        if len(body) + ENTRY_BYTES > self._limit / LARGEST_SHARE:
            return
        self._drop(key)
        ttl = early_expiration.jittered(self._ttl, self._jitter, self._random.random())
        self._entries[key] = _Entry(body, generation, self._clock() + ttl, cost)
        self.bytes += len(body) + ENTRY_BYTES
        while self.bytes > self._limit:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything: what answers depend on has changed."""
        self._entries.clear()
        self.bytes = 0

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= len(entry.body) + ENTRY_BYTES
