"""Random numbers that depend only on a seed and a name: the same in any order, on any machine, in any version of Python."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import TypeVar

Item = TypeVar("Item")


def number_for(seed: int, name: str, bits: int) -> int:
    """One number of so many bits, at most 512."""
    return int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=bits // 8).digest())


class Draw:
    """A stream of numbers for one thing. Not for secrets.

    Of the standard library's generator only random() is used: it alone is promised to stay as it is.
    """

    __slots__ = ("share",)

    def __init__(self, seed: int, name: str) -> None:
        self.share = Random(number_for(seed, name, 64)).random  # noqa: S311
        """Uniform over 0 (included) to 1 (not)."""

    def below(self, bound: int) -> int:
        """Uniform over 0 to bound - 1. `bound` is at most 2**40."""
        return int(self.share() * bound)

    def chance(self, percent: int) -> bool:
        """True so often."""
        return self.share() * 100 < percent

    def rank(self, count: int) -> int:
        """0 to count - 1, with odds as 1 to 1/2 to 1/3 ...: Zipf's law."""
        return int((count + 1) ** self.share()) - 1

    def one(self, items: Sequence[Item]) -> Item:
        """One of them, all alike."""
        return items[int(self.share() * len(items))]

    def normal(self) -> float:
        """About a normal distribution of mean 0 and deviation 1 (Irwin and Hall, four terms): never beyond 3.5."""
        share = self.share
        return (share() + share() + share() + share() - 2.0) * 1.7320508075688772
