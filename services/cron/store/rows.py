"""Jobs from rows."""

from __future__ import annotations

import asyncpg

from services.cron.domain import Concurrency, HttpTarget, Job, KafkaTarget, Misfire, MisfirePolicy, Target
from services.cron.schedule import CronSchedule, IntervalSchedule, Schedule

JOB = """j.id, j.tenant_id, j.name, j.cron, j.zone, j.every_seconds, j.anchor, j.target_url, j.target_topic, j.target_key,
    j.target_body, j.misfire_policy, j.misfire_cap, j.misfire_deadline_seconds, j.concurrency, j.jitter_seconds, j.retries,
    j.timeout_seconds, j.enabled, j.version, j.turn, j.next_at, j.created_at, j.updated_at"""
"""Columns of jobs as j, for `job_of`."""


def target_of(row: asyncpg.Record) -> Target:
    """From the columns target_*."""
    if row["target_url"] is not None:
        return HttpTarget(row["target_url"], row["target_body"])
    return KafkaTarget(row["target_topic"], row["target_key"], row["target_body"])


def job_of(row: asyncpg.Record) -> Job:
    """From the columns JOB."""
    schedule: Schedule = (
        CronSchedule(row["cron"], row["zone"])
        if row["cron"] is not None
        else IntervalSchedule(row["every_seconds"], row["anchor"])
    )
    return Job(
        id=row["id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        schedule=schedule,
        target=target_of(row),
        misfire=MisfirePolicy(Misfire(row["misfire_policy"]), row["misfire_cap"], row["misfire_deadline_seconds"]),
        concurrency=Concurrency(row["concurrency"]),
        jitter_seconds=row["jitter_seconds"],
        retries=row["retries"],
        timeout_seconds=row["timeout_seconds"],
        enabled=row["enabled"],
        version=row["version"],
        turn=row["turn"],
        next_at=row["next_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
