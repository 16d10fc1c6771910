"""Routes: HTTP to a command and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.cron import failpoints, handlers, metrics, problems
from services.cron.domain import JOB_PREFIX, RunState
from services.cron.handlers import Context
from services.cron.schemas import (
    CreateJob,
    JobList,
    JobView,
    NextList,
    PatchJob,
    RunList,
    RunView,
    job_view,
    run_view,
)
from services.kit import ids, openapi
from services.kit.access import ApiKeys, bearer
from services.kit.admission import Places, store_answers, wanted_version
from services.kit.failpoint import failpoint
from services.kit.http import json_response, read_json
from services.kit.idempotency import idempotency_key, optional_idempotency_key
from services.kit.query import Query
from services.patterns.idempotency import fingerprint

NEXT = 10
NEXT_LIMIT = 100


_version = partial(wanted_version, changed=problems.Changed)
"""Of If-Match."""


@dataclass(slots=True)
class Edge:
    """What the routes need beside the commands' context. One per process."""

    context: Context
    monotonic: Callable[[], float]
    keys: ApiKeys = field(init=False)
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(self.context.settings.max_in_flight, metrics.SHED.inc)
        self.keys = ApiKeys(self.context.store.tenant_of, self.monotonic)

    async def tenant(self, request: Request) -> str:
        """Whose request this is. Raises Unauthorised."""
        return await self.keys.owner(bearer(request))

    @asynccontextmanager
    async def admitted(self, request: Request) -> AsyncIterator[str]:
        """Count a request in and say whose it is. Its body is read first: who sends slowly must not hold a place.

        Raises Busy beyond the bound, when nothing has been done yet; Unauthorised; Unavailable.
        """
        await request.body()
        with self.places.one(), store_answers():
            yield await self.tenant(request)


def routes(edge_of: Callable[[], Edge]) -> APIRouter:
    """The router. `edge_of` is called once the application's lifespan has begun."""
    router = APIRouter(prefix="/v1")

    @router.post("/jobs", openapi_extra=_documented(CreateJob, 201, parameters=[_KEY_HEADER]))
    async def create(request: Request) -> Response:
        """Make a job. With an Idempotency-Key a retry gets the first answer; without, 409 `name_in_use` and the job's id."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            key = await _key_of(request)
            wanted = await read_json(request, CreateJob)
            made = await handlers.create_job(edge.context, tenant, wanted, key)
            await failpoint(failpoints.API_AFTER_COMMIT, wanted.name)
            return _created(made)

    @router.get("/jobs", openapi_extra=_documented(None, 200, answer=JobList, parameters=openapi.PAGING))
    async def listing(request: Request) -> Response:
        """The tenant's jobs, newest first."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            query = Query.of(request, "limit", "cursor")
            limit = query.limit
            found = await edge.context.store.page(tenant, query.cursor(JOB_PREFIX), limit + 1)
            page = [job_view(job) for job in found[:limit]]
            return json_response(200, JobList(page, page[-1].id if len(found) > limit else None))

    @router.get("/jobs/{job_id}", openapi_extra=_documented(None, 200))
    async def get(job_id: str, request: Request) -> Response:
        """A job as it is now, with its version as ETag."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            return _job(200, job_view(await handlers.get_job(edge.context, tenant, _job_id(job_id))))

    @router.patch("/jobs/{job_id}", openapi_extra=_documented(PatchJob, 200, parameters=[openapi.IF_MATCH]))
    async def patch(job_id: str, request: Request) -> Response:
        """Change what is given. With If-Match only the version that was read."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            wanted = await read_json(request, PatchJob)
            job = await handlers.patch_job(edge.context, tenant, _job_id(job_id), wanted, _version(request))
            return _job(200, job_view(job))

    @router.delete(
        "/jobs/{job_id}",
        status_code=204,
        openapi_extra=_documented(None, 204, answer=None, parameters=[openapi.IF_MATCH]),
    )
    async def delete(job_id: str, request: Request) -> Response:
        """End a job. Its name is free at once, its history goes with the retention."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            await handlers.delete_job(edge.context, tenant, _job_id(job_id), _version(request))
            return Response(status_code=204)

    @router.get("/jobs/{job_id}/next", openapi_extra=_documented(None, 200, answer=NextList, parameters=[_COUNT]))
    async def preview(job_id: str, request: Request) -> Response:
        """The next `count` (10) instants."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            count = Query.of(request, "count").whole("count", NEXT, NEXT_LIMIT)
            return json_response(200, await handlers.next_instants(edge.context, tenant, _job_id(job_id), count))

    @router.get("/jobs/{job_id}/runs", openapi_extra=_documented(None, 200, answer=RunList, parameters=_RUNS))
    async def runs(job_id: str, request: Request) -> Response:
        """What became of each instant, newest first."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            query = Query.of(request, "limit", "cursor", "state")
            limit, before, state = query.limit, query.time_cursor(), query.choice("state", tuple(RunState))
            job = await handlers.get_job(edge.context, tenant, _job_id(job_id))
            found = await edge.context.store.runs(tenant, job.id, before, state, limit + 1)
            page = [run_view(run) for run in found[:limit]]
            after = page[-1].scheduled_for.isoformat().replace("+00:00", "Z") if len(found) > limit else None
            return json_response(200, RunList(page, after))

    @router.post("/jobs/{job_id}/run", openapi_extra=_documented(None, 202, answer=RunView, parameters=[_RUN_KEY]))
    async def run(job_id: str, request: Request) -> Response:
        """Run it now. The same Idempotency-Key names the same run, as long as the run is kept."""
        edge = edge_of()
        async with edge.admitted(request) as tenant:
            if await request.body() not in (b"", b"{}"):
                raise problems.InvalidQuery("This request has no body.")
            made, replayed = await handlers.run_job(edge.context, tenant, _job_id(job_id), idempotency_key(request))
            headers = {"Idempotent-Replayed": "true"} if replayed else {}
            return json_response(202, run_view(made), headers)

    return router


def _created(made: handlers.Created) -> Response:
    headers = {"Location": f"/v1/jobs/{ids.encode(JOB_PREFIX, made.job)}", "ETag": '"1"'}
    if made.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(made.body, 201, headers, media_type="application/json")


def _job(status: int, job: JobView) -> Response:
    return json_response(status, job, {"Location": f"/v1/jobs/{job.id}", "ETag": f'"{job.version}"'})


def _job_id(text: str) -> UUID:
    job = ids.decode(JOB_PREFIX, text)
    if job is None:
        raise problems.NoSuchJob
    return job


async def _key_of(request: Request) -> handlers.Key | None:
    """Of a request that may have none."""
    key = optional_idempotency_key(request)
    if key is None:
        return None
    try:
        return handlers.Key(key, fingerprint("POST /v1/jobs", await request.body()))
    except ValueError:
        return None  # not JSON: it is refused when it is read


_KEY_HEADER = openapi.idempotency_key("The same key and body get the same answer for 24 hours.")


_RUN_KEY = openapi.idempotency_key("The same key names the same run, as long as the run is kept.", required=True)
_COUNT = openapi.query("count", {"type": "integer", "minimum": 1, "maximum": NEXT_LIMIT, "default": NEXT})
_RUNS = (*openapi.PAGING, openapi.query("state", {"type": "string", "enum": [state.value for state in RunState]}))


def _documented(
    body: type | None,
    status: int,
    *,
    answer: type | None = JobView,
    parameters: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    return openapi.documented(body, status, answer=answer, parameters=parameters)
