"""The client's own history against what the stores and simulators hold: pure set arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labs.engine.model import Operation, Outcome

KEPT = 10


@dataclass(frozen=True, slots=True)
class Count:
    """How many, and the first ten by name."""

    count: int
    ids: tuple[str, ...]

    @classmethod
    def of(cls, keys: set[str]) -> Count:
        """Sorted, so that two runs compare."""
        return cls(len(keys), tuple(sorted(keys)[:KEPT]))


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Counts of operation keys.

    lost = acknowledged - found; unexpected = found - attempted; contradicted = told failed and found;
    recovered = unknown and found; duplicated = found more than once.
    """

    attempted: int
    acknowledged: int
    found: int
    lost: Count
    duplicated: Count
    recovered: Count
    unexpected: Count
    contradicted: Count


def reconcile(history: Sequence[Operation], found: Mapping[str, int]) -> Reconciliation:
    """Compare. `found` holds the number of effects by key. A key that was ever acknowledged counts as acknowledged."""
    by_outcome: dict[Outcome, set[str]] = {outcome: set() for outcome in Outcome}
    for operation in history:
        by_outcome[operation.outcome].add(operation.key)
    acknowledged = by_outcome[Outcome.OK]
    attempted = set().union(*by_outcome.values())
    present = {key for key, effects in found.items() if effects > 0}
    told_failed = by_outcome[Outcome.FAIL] - acknowledged
    unknown = by_outcome[Outcome.UNKNOWN] - acknowledged - told_failed
    return Reconciliation(
        attempted=len(attempted),
        acknowledged=len(acknowledged),
        found=len(present),
        lost=Count.of(acknowledged - present),
        duplicated=Count.of({key for key in present if found[key] > 1}),
        recovered=Count.of(unknown & present),
        unexpected=Count.of(present - attempted),
        contradicted=Count.of(told_failed & present),
    )
