"""What the small schedulers of day 5 share: the table of jobs and the route that creates one."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.kit import ids
from services.kit.clock import SystemClock
from services.kit.http import json_response, read_json

JOBS = """
CREATE TABLE IF NOT EXISTS jobs (
    id text PRIMARY KEY, name text NOT NULL, every interval NOT NULL, url text NOT NULL,
    next_at timestamptz NOT NULL, created_at timestamptz NOT NULL);
"""

router = APIRouter()


class Schedule(msgspec.Struct):
    every_seconds: int


class Http(msgspec.Struct):
    url: str


class Target(msgspec.Struct):
    http: Http


class NewJob(msgspec.Struct):
    name: str
    schedule: Schedule
    target: Target


@router.post("/v1/jobs")
async def create(request: Request) -> Response:
    """A job is due each `every_seconds` from its creation on. `request.app.state.db` is an asyncpg pool."""
    wanted = await read_json(request, NewJob)
    job, now = ids.encode("job", ids.uuid7()), SystemClock().now()
    every = timedelta(seconds=wanted.schedule.every_seconds)
    await request.app.state.db.execute(
        "INSERT INTO jobs (id, name, every, url, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        job, wanted.name, every, wanted.target.http.url, now + every, now,
    )  # fmt: skip
    return json_response(201, {"id": job, "name": wanted.name, "created_at": now, "next_at": now + every})
