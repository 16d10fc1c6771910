"""Writes what was decided for the instants of jobs: the one statement that makes rows of the audit from schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.cron.domain import WAITING_OF_A_JOB, Plan
from services.cron.leases import LEASE
from services.kit import ids
from services.kit.store import Connection

FENCED = f"EXISTS (SELECT FROM leases WHERE name = '{LEASE}' AND epoch = {{epoch}})"
_FENCED = FENCED.format(epoch="$4")

# `live` counts what was there before this plan; the runs of one plan are among themselves as the plan says.
_PLAN = f"""
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS w (id, turn, next_at)
), moved AS (
    UPDATE jobs j SET next_at = w.next_at, turn = j.turn + 1 FROM wanted w
    WHERE j.id = ANY($1::uuid[]) AND j.id = w.id AND j.turn = w.turn AND j.deleted_at IS NULL
        AND ($4::bigint IS NULL OR {_FENCED})
    RETURNING j.id, j.concurrency, j.misfire_deadline_seconds
), held AS (
    SELECT m.*, (SELECT count(*) FROM (SELECT FROM runs a WHERE a.job_id = m.id AND a.state IN ('waiting', 'firing')
                                       LIMIT {WAITING_OF_A_JOB}) live) AS live
    FROM moved m
), instants AS (
    SELECT p.*, h.concurrency, h.misfire_deadline_seconds,
        CASE WHEN p.state <> 'waiting' THEN p.reason
             WHEN h.concurrency = 'forbid' AND h.live > 0 THEN 'overlap'
             WHEN h.concurrency = 'allow' AND h.live >= {WAITING_OF_A_JOB} THEN 'backlog' END AS refused
    FROM unnest($5::uuid[], $6::uuid[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::int[])
        AS p (id, job_id, scheduled_for, due_at, state, reason, covers)
    JOIN held h ON h.id = p.job_id
), replaced AS (
    UPDATE runs r SET state = CASE r.state WHEN 'firing' THEN 'failed' ELSE 'skipped' END, reason = 'replaced',
        finished_at = clock_timestamp()
    WHERE r.job_id = ANY(array(SELECT job_id FROM instants WHERE concurrency = 'replace' AND state = 'waiting'))
        AND r.state IN ('waiting', 'firing')
    RETURNING r.id
), written AS (
    INSERT INTO runs (id, job_id, scheduled_for, due_at, attempt_at, deadline_at, state, reason, covers, exclusive, finished_at)
    SELECT id, job_id, scheduled_for, due_at, due_at, due_at + make_interval(secs => misfire_deadline_seconds),
        CASE WHEN state = 'waiting' AND refused IS NOT NULL THEN 'skipped' ELSE state END, refused, covers,
        concurrency <> 'allow',
        CASE WHEN state = 'waiting' AND refused IS NULL THEN NULL ELSE clock_timestamp() END
    FROM instants ON CONFLICT (job_id, scheduled_for) DO NOTHING
    RETURNING state, covers
)
SELECT (SELECT count(*) FROM moved) AS moved, array(SELECT id FROM replaced) AS replaced,
    $4::bigint IS NULL OR {_FENCED} AS fenced,
    (SELECT coalesce(array_agg(state), '{{}}') FROM (SELECT state, sum(covers) AS n FROM written GROUP BY state ORDER BY state) s) AS states,
    (SELECT coalesce(array_agg(n), '{{}}') FROM (SELECT state, sum(covers) AS n FROM written GROUP BY state ORDER BY state) s) AS counts
"""  # noqa: S608  # constants of ours only


class Deposed(Exception):
    """The lease is another's: nothing was written."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan did: instants by state, and the runs that it replaced."""

    counts: dict[str, int]
    replaced: tuple[UUID, ...]
    moved: int


async def write_plans(db: Connection, plans: Sequence[Plan], epoch: int | None) -> Planned:
    """With an epoch, only while that holds. Raises Deposed, and the database's errors."""
    instants = [(ids.uuid7(), one.job.id, each) for one in plans for each in one.instants]
    row = await db.fetchrow(
        _PLAN,
        [one.job.id for one in plans],
        [one.job.turn for one in plans],
        [one.next_at for one in plans],
        epoch,
        [run for run, _, _ in instants],
        [job for _, job, _ in instants],
        [each.scheduled_for for _, _, each in instants],
        [each.due_at for _, _, each in instants],
        [each.state.value for _, _, each in instants],
        [each.reason for _, _, each in instants],
        [each.covers for _, _, each in instants],
    )
    assert row is not None
    if not row["fenced"]:
        raise Deposed
    return Planned(dict(zip(row["states"], row["counts"], strict=True)), tuple(row["replaced"]), row["moved"])
