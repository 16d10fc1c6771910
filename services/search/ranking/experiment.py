"""Which variant of an experiment somebody sees: always the same, drawn from a hash, by the arms' shares.

Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005): when a share grows or an
arm is added, only people who now belong to it move.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import log


@dataclass(frozen=True, slots=True)
class Arm:
    """A ranking by name, and its share as against the other arms. A share of 0 is an arm that is closed."""

    ranking: str
    share: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """`name` is part of the hash: who is in the first arm of one experiment is anywhere in another."""

    name: str
    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        """Raises ValueError if there is nobody to show anything, or an arm is there twice."""
        if not self.name or not any(arm.share > 0 for arm in self.arms):
            raise ValueError("an experiment has a name and at least one arm with a share above 0")
        if min(arm.share for arm in self.arms) < 0:
            raise ValueError(f"experiment {self.name}: shares are at least 0")
        if len({arm.ranking for arm in self.arms}) < len(self.arms):
            raise ValueError(f"experiment {self.name}: an arm is named twice")

    def arm(self, person: str) -> str:
        """The ranking that this user or session sees."""
        return max(
            (arm for arm in self.arms if arm.share > 0), key=lambda arm: (self._pull(arm, person), arm.ranking)
        ).ranking

    def _pull(self, arm: Arm, person: str) -> float:
        digest = blake2b(f"{self.name}\0{arm.ranking}\0{person}".encode("utf-8", "replace"), digest_size=8).digest()
        share = (int.from_bytes(digest) + 0.5) / 2**64
        return -arm.share / log(share)
