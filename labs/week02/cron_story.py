"""What happened to one instant of a job, step by step: who wrote which row, and what the target saw."""

from __future__ import annotations

from collections.abc import Sequence

from labs.engine import Evidence, StoryLine
from labs.invariants.cron import Effect, Run, effects_of, jobs_of, runs_of


def _row(run: Run) -> str:
    who = run.node or "the scheduler"
    epoch = f", epoch {run.epoch}" if run.epoch else ""
    why = f" ({run.reason})" if run.reason else ""
    return f"{who} writes: {run.state}{why}{epoch}"


def _effect(effect: Effect) -> str:
    brought = f"run {effect.run_id}, epoch {effect.epoch}" if effect.run_id else "neither run id nor epoch"
    return f"{'does it' if effect.applied else 'refuses'}: {effect.reason} ({brought})"


async def story(evidence: Evidence, offender: str) -> Sequence[StoryLine]:
    """Rows and effects of an instant (`<operation key>@<n>`), in time order."""
    key, _, number = offender.rpartition("@")
    job_id, job = next((name, job) for name, job in jobs_of(evidence).items() if job.key == key)
    instant = None if number == "?" else int(number)
    lines = []
    if instant is not None:
        lines.append(StoryLine(evidence.since_start(job.at(instant)), "calendar", f"instant {instant} of {key} is due"))
    lines += [
        StoryLine(evidence.since_start(run.fired_at), "scheduler", _row(run))
        for run in await runs_of(evidence)
        if run.job == job_id and job.number(run.scheduled_for) == instant and run.fired_at is not None
    ]
    lines += [
        StoryLine(evidence.since_start(effect.at), "target", _effect(effect))
        for effect in await effects_of(evidence)
        if effect.job == job_id and job.number(effect.scheduled_for) == instant
    ]
    return sorted(lines, key=lambda line: line.at)
