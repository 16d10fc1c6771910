"""One offender told step by step: what the stores know, merged with the client's own history and the faults."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labs.engine.model import FaultRecord, Operation, StoryLine
from labs.engine.trial import Trial

NEAR_SECONDS = 0.5
LONGEST = 60


def of_trial(trial: Trial) -> list[StoryLine]:
    """In order of time; empty if there is no offender."""
    if not trial.story_of:
        return []
    operations = [one for one in trial.history if concerns(one, trial.story_of)]
    told = [*trial.story, *(line for one in operations for line in _client(one))]
    if not told:
        return []
    first, last = min(line.at for line in told), max(line.at for line in told)
    told += [line for fault in trial.faults for line in _fault(fault, first - NEAR_SECONDS, last + NEAR_SECONDS)]
    return sorted(told, key=lambda line: line.at)[:LONGEST]


def concerns(operation: Operation, offender: str) -> bool:
    """Offenders are named by key, by the client's id, or by what the client was shown."""
    return offender in (operation.key, operation.id, *operation.result.values())


def _client(one: Operation) -> Iterable[StoryLine]:
    if one.sent_at is not None:
        yield StoryLine(one.sent_at, "client", f"sends {one.kind} {one.key}")
    attempts = "1 attempt" if one.attempts == 1 else f"{one.attempts} attempts"
    if one.done_at is None:
        return
    told = {"ok": "is told that it worked", "fail": "is told that it failed", "unknown": "gives up, not knowing"}
    details = [attempts]
    if one.status is not None:
        details.append(f"last answer HTTP {one.status}")
    details += [value for value in (one.error, *one.result.values()) if value]
    yield StoryLine(one.done_at, "client", f"{told[one.outcome.value]} ({', '.join(details)})")


def _fault(fault: FaultRecord, first: float, last: float) -> Iterable[StoryLine]:
    if fault.injected_at is None or fault.injected_at > last or (fault.healed_at or last) < first:
        return
    if fault.injected_at >= first:
        yield StoryLine(fault.injected_at, "fault", f"{fault.kind} on {fault.target} begins")
    else:
        yield StoryLine(first, "fault", f"{fault.kind} on {fault.target} has been on since {fault.injected_at:.1f} s")
    if fault.healed_at is not None and fault.healed_at <= last:
        yield StoryLine(fault.healed_at, "fault", f"{fault.kind} on {fault.target} is taken back")


def columns(lines: Sequence[StoryLine]) -> list[str]:
    """Who takes part, in order of appearance."""
    return list(dict.fromkeys(line.who for line in lines))
