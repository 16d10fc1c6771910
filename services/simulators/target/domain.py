"""What a target decides about a call: apply it, or refuse it as stale or as done already."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Target(StrEnum):
    """Three targets that differ only in what they check."""

    BOTH = "both"
    DEDUP_ONLY = "dedup-only"
    FENCING_ONLY = "fencing-only"


class Reason(StrEnum):
    """Why a call was applied or not. `unguarded`: applied, and it brought nothing that could have been checked."""

    APPLIED = "applied"
    UNGUARDED = "unguarded"
    DUPLICATE_RUN = "duplicate_run"
    STALE_EPOCH = "stale_epoch"


@dataclass(frozen=True, slots=True)
class Call:
    """One order to do something. Without a run id there is nothing to dedup by, without an epoch nothing to fence by."""

    target: Target
    job_id: str
    scheduled_for: str
    run_id: str | None
    epoch: int | None


@dataclass(frozen=True, slots=True)
class Checks:
    """What is checked now."""

    dedup: bool
    fencing: bool

    @classmethod
    def of(cls, target: Target) -> Checks:
        """As the target's name says."""
        return cls(dedup=target is not Target.FENCING_ONLY, fencing=target is not Target.DEDUP_ONLY)


def decide(call: Call, *, highest_epoch: int | None, run_seen: bool) -> Reason:
    """What a call deserves, given what was seen before it. A stale epoch outranks a duplicate."""
    if call.epoch is not None and highest_epoch is not None and call.epoch < highest_epoch:
        return Reason.STALE_EPOCH
    if call.run_id is not None and run_seen:
        return Reason.DUPLICATE_RUN
    return Reason.UNGUARDED if call.run_id is None and call.epoch is None else Reason.APPLIED
