"""Which of the bank's shards a card belongs to. Pure: the bank publishes the rule, we and the checker apply it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256


def shard_of(source: str, shards: int) -> int:
    """The first 8 bytes of the token's SHA-256, big-endian, modulo the number of shards (1 or more).

    Not `hash()`: every process must come to the same shard, today and after a restart.
    """
    return int.from_bytes(sha256(source.encode()).digest()[:8], "big") % shards


@dataclass(frozen=True, slots=True)
class Shards:
    """Base URLs, shard 0 first. One URL: a bank without shards."""

    urls: Sequence[str]

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("a bank has at least one shard")

    def of(self, source: str) -> int:
        """The number of the card's shard."""
        return shard_of(source, len(self.urls))
