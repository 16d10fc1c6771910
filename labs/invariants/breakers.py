"""What circuit breakers are for, judged from outside: the client's history by the shard of the card, and the bank's record.

Imports nothing from the services. A card is `tok_<merchant reference>`; the bank publishes whose card it is (`shard_of`).
Offenders are merchant references. Operations of the control are left out: there every shard is well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from labs.engine.model import Evidence, FaultRecord, Finding, Invariant, Operation, Outcome, Phase

SHARDS = 10
PATIENCE_SECONDS = 2.0
"""Who pays stands at a till: a later answer is none. Forty times the p99 of a quiet run."""
DETECTION_SECONDS = 4.0
"""A breaker that waits for calls to time out (2 s) and for enough of them may take so long to open."""
RECOVERY_SECONDS = 4.0
SERVED_SHARE = 0.95
REFUSED = "urn:lab:bank_unavailable"

CHARGED = "SELECT DISTINCT source FROM charges WHERE source = ANY($1::text[])"


def shard_of(source: str, shards: int) -> int:
    """The bank's published rule: the first 8 bytes of the token's SHA-256, big-endian, modulo the number of shards."""
    return int.from_bytes(sha256(source.encode()).digest()[:8], "big") % shards


def shard_of_operation(operation: Operation) -> int:
    """Of the card that it is paid with."""
    return shard_of(f"tok_{operation.key}", SHARDS)


def answered(operation: Operation) -> bool:
    """The payment was made, or refused for good, while the client still waited."""
    latency = operation.latency
    return operation.outcome is not Outcome.UNKNOWN and latency is not None and latency <= PATIENCE_SECONDS


def answered_share(operations: Sequence[Operation]) -> float | None:
    """Share of them that was answered; None of nothing."""
    return sum(map(answered, operations)) / len(operations) if operations else None


@dataclass(frozen=True, slots=True)
class Outage:
    """When something was wrong, in seconds of the run, and with which shards."""

    start: float
    end: float
    shards: frozenset[int]

    def during(self, operations: Iterable[Operation]) -> tuple[Operation, ...]:
        """Those meant to be sent while it lasted."""
        return tuple(one for one in operations if self.start <= one.intended_at < self.end)


def outage(evidence: Evidence) -> Outage | None:
    """From the faults as they happened; None if none was injected, or one was never healed."""
    happened = [fault for fault in evidence.faults if fault.injected_at is not None and fault.healed_at is not None]
    if not happened:
        return None
    starts = [fault.injected_at for fault in happened if fault.injected_at is not None]
    ends = [fault.healed_at for fault in happened if fault.healed_at is not None]
    return Outage(min(starts), max(ends), frozenset(shard for fault in happened for shard in _shards_hit(fault)))


def _shards_hit(fault: FaultRecord) -> Iterable[int]:
    """Links to shards are called `sut.shard3`; a fault of many links names them all, separated by spaces."""
    for name in fault.role.replace(",", " ").split():
        tail = name.rpartition("shard")[2]
        if "shard" in name and tail.isdigit():
            yield int(tail)


def _loaded(evidence: Evidence) -> tuple[Operation, ...]:
    return tuple(one for one in evidence.history if one.phase is not Phase.CONTROL)


def live_shards_answered(share: float) -> Invariant:
    """At least this share (0 to 1) of the operations on shards that are well is answered while others are not."""

    async def live_shards_answered(evidence: Evidence) -> Finding:
        """While some shards are dead or slow, requests to all others are answered."""
        found = outage(evidence)
        if found is None:
            return Finding.of((), "no fault yet")
        if len(found.shards) in (0, SHARDS):
            return Finding.unknown(f"{len(found.shards)} of {SHARDS} shards were hit: there is nothing to compare")
        live = [one for one in found.during(_loaded(evidence)) if shard_of_operation(one) not in found.shards]
        return _at_least(share, live, "operations on live shards")

    return live_shards_answered


def _at_least(share: float, operations: Sequence[Operation], what: str) -> Finding:
    if not operations:
        return Finding.unknown(f"no {what}")
    failed = [one.key for one in operations if not answered(one)]
    note = f"{len(operations) - len(failed)} of {len(operations)} {what} were answered within {PATIENCE_SECONDS:g} s"
    return Finding.of(failed if len(failed) > (1 - share) * len(operations) else (), note)


def asked_meanwhile(evidence: Evidence, found: Outage) -> tuple[Operation, ...]:
    """Operations of the outage from the time on when it must have been noticed."""
    return Outage(found.start + DETECTION_SECONDS, found.end, found.shards).during(_loaded(evidence))


def told_at_once(share: float) -> Invariant:
    """At least this share of all clients has *an* answer in time, if only a refusal, once the outage must have been seen."""

    async def told_at_once(evidence: Evidence) -> Finding:
        """While the dependency is away, clients are told so at once instead of waiting for a timeout."""
        found = outage(evidence)
        if found is None:
            return Finding.of((), "no fault yet")
        asked = asked_meanwhile(evidence, found)
        if not asked:
            return Finding.unknown("no operation after the time that detection may take")
        late = [one.key for one in asked if one.latency is None or one.latency > PATIENCE_SECONDS / 2]
        note = f"{len(asked) - len(late)} of {len(asked)} had an answer within {PATIENCE_SECONDS / 2:g} s"
        return Finding.of(late if len(late) > (1 - share) * len(asked) else (), note)

    return told_at_once


def hit_shards_refused(share: float) -> Invariant:
    """At least this share of the cards of dead or slow shards is refused in time, once the outage must have been seen.

    Without it a breaker that never opens would hold: it serves the other shards, if nothing is held across the call.
    """

    async def hit_shards_refused(evidence: Evidence) -> Finding:
        """While a shard is dead or slow, its cards are told at once that nothing was done."""
        found = outage(evidence)
        if found is None:
            return Finding.of((), "no fault yet")
        asked = [one for one in asked_meanwhile(evidence, found) if shard_of_operation(one) in found.shards]
        if not asked:
            return Finding.unknown("no card of such a shard after the time that detection may take")
        late = [one.key for one in asked if not _refused_at_once(one)]
        note = f"{len(asked) - len(late)} of {len(asked)} cards of dead or slow shards were told at once that nothing was done"
        return Finding.of(late if len(late) > (1 - share) * len(asked) else (), note)

    return hit_shards_refused


def _refused_at_once(operation: Operation) -> bool:
    latency = operation.latency
    return operation.error == REFUSED and latency is not None and latency <= PATIENCE_SECONDS / 2


def recovered_soon(share: float) -> Invariant:
    """At least this share of the operations that begin later than RECOVERY_SECONDS after the heal is answered."""

    async def recovered_soon(evidence: Evidence) -> Finding:
        """Once the dependency is back, clients are served again within seconds."""
        found = outage(evidence)
        if found is None:
            return Finding.of((), "no fault yet")
        after = [one for one in _loaded(evidence) if one.intended_at >= found.end + RECOVERY_SECONDS]
        return _at_least(share, after, f"operations later than {RECOVERY_SECONDS:g} s after the heal")

    return recovered_soon


async def refused_was_not_charged(evidence: Evidence) -> Finding:
    """Who was told that the bank is unavailable and nothing was done has not been charged."""
    refused = {f"tok_{one.key}": one.key for one in evidence.history if one.error == REFUSED}
    rows = await evidence.sql("bank", CHARGED, list(refused))
    return Finding.of(sorted(refused[str(row["source"])] for row in rows), f"{len(refused)} were told so")


def first_refusal(evidence: Evidence, found: Outage) -> float | None:
    """Seconds from the start of the outage to the first client who was told that the bank is unavailable."""
    refused = [
        one.done_at for one in found.during(_loaded(evidence)) if one.error == REFUSED and one.done_at is not None
    ]
    return round(min(refused) - found.start, 2) if refused else None


def served_again(evidence: Evidence, found: Outage) -> float | None:
    """Seconds from the heal to the first second of which 95 % were answered; None if there was none."""
    after = sorted((one for one in _loaded(evidence) if one.intended_at >= found.end), key=lambda one: one.intended_at)
    for first in after:
        window = [one for one in after if first.intended_at <= one.intended_at < first.intended_at + 1]
        if after[-1].intended_at < first.intended_at + 1:
            return None
        if (answered_share(window) or 0.0) >= SERVED_SHARE:
            return round(first.intended_at - found.end, 2)
    return None
