"""What must hold of scheduled jobs, judged from outside: the client's history, the runs table, the target's own record.

Which instants are due is computed here, from what the client ordered and was told (interval and anchor), never asked of
the scheduler. Offenders are instants: `<operation key>@<n>`, the nth instant of the job that this operation created.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from labs.engine.model import Evidence, FaultRecord, Finding, Outcome
from labs.invariants.payments import type_id

GUARDED = "both"
DEDUP_ONLY = "dedup-only"
FENCING_ONLY = "fencing-only"
DONE = frozenset({"fired", "late"})
NOT_DONE = frozenset({"skipped", "coalesced"})
FINAL = DONE | NOT_DONE | {"failed"}

LEASE_SECONDS = 3.0
FAILOVER_SECONDS = LEASE_SECONDS + 2
GRACE_SECONDS = FAILOVER_SECONDS
"""An instant younger than this may still wait for its row: a leader may just have died."""
STORM_SECONDS = 10.0
"""So long after a fault an instant may still be one that it cost."""
SETTLED_AFTER_SECONDS = 2.0
EARLY_SECONDS = 0.05
"""An effect that much before its instant is early. All clocks compared are of one machine."""
SAME_INSTANT_SECONDS = 0.05
LOOK_BACK_SECONDS = 2.0
LOOK_AHEAD_SECONDS = 15.0
LOSES_LEADER = frozenset({"kill", "kill_at_failpoint", "pause", "stop_at_failpoint", "one_way", "blackhole", "down"})

NOW = "SELECT now() AS now"
RUNS = """
SELECT job_id::text AS job, scheduled_for, state, to_jsonb(runs) ->> 'reason' AS reason, fired_at,
       to_jsonb(runs) ->> 'epoch' AS epoch, to_jsonb(runs) ->> 'node' AS node
FROM runs ORDER BY fired_at
"""
EFFECTS = """
SELECT target, run_id, job_id AS job, scheduled_for, epoch, at, applied, reason FROM effects ORDER BY id
"""
JOB_NAMES = "SELECT name, count(*) AS jobs FROM jobs GROUP BY name"

T = TypeVar("T")


def _as(kind: type[T], value: object) -> T:
    """A column has the type that the query gives it; anything else is a broken checker and must surface."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _text(value: object) -> str:
    return "" if value is None else _as(str, value)


@dataclass(frozen=True, slots=True)
class Job:
    """A job that the client saw created: due at `anchor` + n `every`, n = 1, 2, ..."""

    key: str
    anchor: datetime
    every: timedelta
    target: str

    def number(self, moment: datetime) -> int | None:
        """Which instant this is; None if it is none of this job's."""
        number = round((moment - self.anchor) / self.every)
        off = abs((moment - self.anchor - number * self.every).total_seconds())
        return number if number >= 1 and off <= SAME_INSTANT_SECONDS else None

    def at(self, number: int) -> datetime:
        """The nth instant."""
        return self.anchor + number * self.every

    def due_by(self, moment: datetime) -> int:
        """How many instants lie before `moment`."""
        return max(0, (moment - self.anchor) // self.every)


@dataclass(frozen=True, slots=True)
class Run:
    """A row of the scheduler's table."""

    job: str
    scheduled_for: datetime
    state: str
    reason: str
    fired_at: datetime | None
    epoch: str
    node: str


@dataclass(frozen=True, slots=True)
class Effect:
    """A line of the target's record."""

    target: str
    run_id: str
    job: str
    scheduled_for: datetime
    epoch: int | None
    at: datetime
    applied: bool
    reason: str


Found = TypeVar("Found", Run, Effect)

Instant = tuple[str, int]
"""A job's id and the number of the instant."""


def jobs_of(evidence: Evidence) -> Mapping[str, Job]:
    """By the id that the client was shown. A job whose creation was not acknowledged is not promised anything."""
    return {
        operation.result["job"]: Job(
            key=operation.key,
            anchor=datetime.fromisoformat(operation.result["anchor"]),
            every=timedelta(seconds=float(operation.result["every_seconds"])),
            target=operation.result["target"],
        )
        for operation in evidence.history
        if operation.outcome is Outcome.OK and operation.result.get("job")
    }


async def runs_of(evidence: Evidence) -> list[Run]:
    """All rows, with the job's id as the client knows it."""
    return [
        Run(
            job=type_id("job", _as(str, row["job"])),
            scheduled_for=_as(datetime, row["scheduled_for"]),
            state=_as(str, row["state"]),
            reason=_text(row["reason"]),
            fired_at=None if row["fired_at"] is None else _as(datetime, row["fired_at"]),
            epoch=_text(row["epoch"]),
            node=_text(row["node"]),
        )
        for row in await evidence.sql("cron", RUNS)
    ]


async def effects_of(evidence: Evidence) -> list[Effect]:
    """All lines of the target's record, in its order."""
    return [
        Effect(
            target=_as(str, row["target"]),
            run_id=_text(row["run_id"]),
            job=_as(str, row["job"]),
            scheduled_for=datetime.fromisoformat(_as(str, row["scheduled_for"])),
            epoch=None if row["epoch"] is None else _as(int, row["epoch"]),
            at=_as(datetime, row["at"]),
            applied=_as(bool, row["applied"]),
            reason=_as(str, row["reason"]),
        )
        for row in await evidence.sql("target", EFFECTS)
    ]


async def _now(evidence: Evidence) -> datetime:
    rows = await evidence.sql("target", NOW)
    return _as(datetime, rows[0]["now"])


def _name(jobs: Mapping[str, Job], instant: Instant) -> str:
    return f"{jobs[instant[0]].key}@{instant[1]}"


def _names(jobs: Mapping[str, Job], instants: Iterable[Instant]) -> list[str]:
    return sorted(_name(jobs, instant) for instant in set(instants))


def _by_instant(jobs: Mapping[str, Job], found: Iterable[Found]) -> Mapping[Instant, list[Found]]:
    """What is of a known job and of one of its instants."""
    instants: dict[Instant, list[Found]] = defaultdict(list)
    for one in found:
        job = jobs.get(one.job)
        number = job.number(one.scheduled_for) if job else None
        if number is not None:
            instants[one.job, number].append(one)
    return instants


def _due(jobs: Mapping[str, Job], horizon: datetime) -> list[Instant]:
    return [(name, number) for name, job in jobs.items() for number in range(1, job.due_by(horizon) + 1)]


async def every_instant_has_one_row(evidence: Evidence) -> Finding:
    """Every due instant of an acknowledged job has exactly one row that says what became of it."""
    jobs, runs = jobs_of(evidence), await runs_of(evidence)
    rows = _by_instant(jobs, runs)
    due = _due(jobs, await _now(evidence) - timedelta(seconds=GRACE_SECONDS))
    missing = [one for one in due if not rows.get(one)]
    doubled = [one for one, found in rows.items() if len(found) > 1]
    unfinished = [one for one in due if any(row.state not in FINAL for row in rows.get(one, []))]
    wrong = [
        f"{jobs[run.job].key}@?" for run in runs if run.job in jobs and jobs[run.job].number(run.scheduled_for) is None
    ]
    counts = {
        "without a row": len(missing),
        "with more than one": len(doubled),
        "not finished": len(unfinished),
        "that were never due": len(wrong),
    }
    note = ", ".join([f"{len(due)} due", *(f"{number} {what}" for what, number in counts.items() if number)])
    return Finding.of(_names(jobs, [*missing, *doubled, *unfinished]) + sorted(wrong), note)


def doubled_effects(jobs: Mapping[str, Job], effects: Iterable[Effect], target: str) -> list[Instant]:
    """Instants that this target has applied more than once."""
    applied = _by_instant(jobs, [one for one in effects if one.applied and one.target == target])
    return [instant for instant, found in applied.items() if len(found) > 1]


async def no_double_effect(evidence: Evidence) -> Finding:
    """No instant of a job has had its effect twice, as the target's own record tells."""
    jobs, effects = jobs_of(evidence), await effects_of(evidence)
    doubled = doubled_effects(jobs, effects, GUARDED)
    refused = Counter(one.reason for one in effects if not one.applied and one.target == GUARDED)
    note = ", ".join(f"{number} refused as {reason}" for reason, number in sorted(refused.items()))
    return Finding.of(_names(jobs, doubled), note)


async def effects_agree_with_rows(evidence: Evidence) -> Finding:
    """What a row calls fired has had its effect, and what it calls skipped or coalesced has not."""
    jobs = {name: job for name, job in jobs_of(evidence).items() if job.target == GUARDED}
    applied = _by_instant(jobs, [one for one in await effects_of(evidence) if one.applied])
    states: dict[Instant, set[str]] = {
        instant: {row.state for row in rows} for instant, rows in _by_instant(jobs, await runs_of(evidence)).items()
    }
    lost = [instant for instant, state in states.items() if state & DONE and instant not in applied]
    contradicted = [instant for instant, state in states.items() if state and state <= NOT_DONE and instant in applied]
    horizon = await _now(evidence) - timedelta(seconds=GRACE_SECONDS)
    untold = [one for one in applied if one not in states and jobs[one[0]].at(one[1]) < horizon]
    counts = {"fired without effect": lost, "not fired, with effect": contradicted, "effect without a row": untold}
    note = ", ".join(f"{len(found)} {what}" for what, found in counts.items() if found)
    return Finding.of(_names(jobs, [*lost, *contradicted, *untold]), note)


async def fair_weather_skips_nothing(evidence: Evidence) -> Finding:
    """While nothing is broken each instant has its effect: a scheduler that skips whatever is difficult proves nothing."""
    jobs = {name: job for name, job in jobs_of(evidence).items() if job.target == GUARDED}
    applied = _by_instant(jobs, [one for one in await effects_of(evidence) if one.applied])
    horizon = await _now(evidence) - timedelta(seconds=GRACE_SECONDS)
    storms = [
        (one.injected_at - LOOK_BACK_SECONDS, (one.healed_at or float("inf")) + STORM_SECONDS)
        for one in evidence.faults
        if one.injected_at is not None
    ]
    fair = [
        one
        for one in _due(jobs, horizon)
        if not any(begin <= evidence.since_start(jobs[one[0]].at(one[1])) <= end for begin, end in storms)
    ]
    return Finding.of(_names(jobs, [one for one in fair if one not in applied]), f"{len(fair)} in fair weather")


async def nothing_fired_early(evidence: Evidence) -> Finding:
    """No effect came before its instant, whatever a node's clock says."""
    jobs = jobs_of(evidence)
    early = [one for one in await effects_of(evidence) if _seconds_early(one) > EARLY_SECONDS and one.job in jobs]
    worst = max((_seconds_early(one) for one in early), default=0.0)
    named = {f"{jobs[one.job].key}@{jobs[one.job].number(one.scheduled_for) or '?'}" for one in early}
    return Finding.of(sorted(named), f"up to {worst:.1f} s early" if early else "")


def _seconds_early(effect: Effect) -> float:
    return (effect.scheduled_for - effect.at).total_seconds()


def deposed(effects: Iterable[Effect], target: str) -> list[Effect]:
    """What this target applied for an epoch below one that it had seen before."""
    highest = -1
    found = []
    for one in effects:
        if one.target != target or one.epoch is None:
            continue
        if one.applied and one.epoch < highest:
            found.append(one)
        highest = max(highest, one.epoch)
    return found


async def no_effect_of_a_deposed_leader(evidence: Evidence) -> Finding:
    """Once the target has heard from a newer leader, it does nothing for an older one."""
    jobs, effects = jobs_of(evidence), await effects_of(evidence)
    if not any(one.epoch is not None for one in effects):
        return Finding.not_applicable("nothing that came to the target carried an epoch")
    late = [one for one in deposed(effects, GUARDED) if one.job in jobs]
    return Finding.of(sorted({f"{jobs[one.job].key}@{jobs[one.job].number(one.scheduled_for) or '?'}" for one in late}))


def _struck(faults: Iterable[FaultRecord], kind: str, parameter: str, value: str) -> bool:
    return any(
        one.kind == kind and one.parameters.get(parameter) == value and one.receipt is not None and one.receipt.proven
        for one in faults
    )


async def each_check_alone_fails(evidence: Evidence) -> Finding:
    """A target that only dedups obeys a deposed leader; one that only fences does a dead leader's work twice.

    Judged only where the faults that show it were injected.
    """
    late = _struck(evidence.faults, "target.holds_request", "target", DEDUP_ONLY)
    dead = _struck(evidence.faults, "kill_at_failpoint", "subject", FENCING_ONLY)
    if not late and not dead:
        return Finding.of([], "no fault of this run asks for it")
    jobs, effects = jobs_of(evidence), await effects_of(evidence)
    if not any(one.epoch is not None for one in effects):
        return Finding.not_applicable("nothing that came to the target carried an epoch")
    obeyed, twice = len(deposed(effects, DEDUP_ONLY)), len(doubled_effects(jobs, effects, FENCING_ONLY))
    note = f"dedup alone: {obeyed} effects of a deposed leader; fencing alone: {twice} double effects"
    if (late and not obeyed) or (dead and not twice):
        return Finding.unknown(f"not shown: {note}")
    return Finding.of([], note)


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time without any effect around the loss of a leader."""

    fault: str
    seconds: float


async def failover_gaps(evidence: Evidence) -> list[Gap]:
    """For each fault that takes the leader away. Seconds; includes the normal distance between two effects."""
    moments = sorted(evidence.since_start(one.at) for one in await effects_of(evidence) if one.applied)
    end = evidence.since_start(await _now(evidence))
    return [
        Gap(f"{one.kind} on {one.target}", _longest_gap(moments, one.injected_at, end))
        for one in evidence.faults
        if one.role.partition(".")[0] == "leader" and one.kind in LOSES_LEADER and one.injected_at is not None
    ]


def _longest_gap(moments: Sequence[float], struck_at: float, end: float) -> float:
    until = min(end, struck_at + LOOK_AHEAD_SECONDS)
    inside = [moment for moment in moments if struck_at - LOOK_BACK_SECONDS <= moment <= until]
    edges = [struck_at - LOOK_BACK_SECONDS, *inside, until]
    return max(later - earlier for earlier, later in pairwise(edges))


async def failover_in_time(evidence: Evidence) -> Finding:
    """Whoever takes the leader away, jobs are fired again within the lease and two seconds."""
    gaps = await failover_gaps(evidence)
    slow = [f"{gap.fault}: {gap.seconds:.1f} s" for gap in gaps if gap.seconds >= FAILOVER_SECONDS]
    longest = max((gap.seconds for gap in gaps), default=0.0)
    return Finding.of(slow, f"longest gap {longest:.1f} s, limit {FAILOVER_SECONDS:g} s" if gaps else "")


async def jobs_by_key(evidence: Evidence) -> Mapping[str, int]:
    """How many jobs the scheduler holds for each operation: their names begin with the operation's key."""
    found: Counter[str] = Counter()
    for row in await evidence.sql("cron", JOB_NAMES):
        found["-".join(_as(str, row["name"]).split("-")[:2])] += _as(int, row["jobs"])
    return found


async def still_open(evidence: Evidence) -> str:
    """Probe: "" once every instant that is two seconds old has its row, finished."""
    jobs = jobs_of(evidence)
    rows = _by_instant(jobs, await runs_of(evidence))
    due = _due(jobs, await _now(evidence) - timedelta(seconds=SETTLED_AFTER_SECONDS))
    waiting = [one for one in due if not rows.get(one) or any(row.state not in FINAL for row in rows[one])]
    return f"{len(waiting)} of {len(due)} instants have no finished row yet" if waiting else ""
