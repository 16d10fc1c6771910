"""What the pages ask for and what their buttons do. Every answer is JSON, every error a problem document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from infra.runtime import RuntimeProblem
from labs.console import commands
from labs.console.alerts import Message
from labs.console.jobs import Job
from labs.console.prometheus import WINDOWS
from labs.console.traces import TRACE_ID, NoSuchTrace
from labs.story import record
from services.kit.errors import Problem
from services.kit.http import json_response, read_json

if TYPE_CHECKING:
    from labs.console.app import Parts

router = APIRouter()
Minutes = Annotated[int, Query(ge=1, le=60)]
Project = Annotated[str, Query(max_length=80)]
Name = Annotated[str, Query(max_length=100)]
Lines = Annotated[int, Query(ge=1, le=500)]
After = Annotated[int, Query(ge=0, le=10_000_000)]


class StartJob(msgspec.Struct, forbid_unknown_fields=True):
    """`prediction` is what the learner expects; None where it was not asked for."""

    command: str
    prediction: str | None = None


def parts_of(request: Request) -> Parts:
    """What the lifespan has made."""
    return cast("Parts", request.app.state.parts)


@router.get("/api/state")
async def state(request: Request) -> Response:
    """What runs and what was started: polled by every open page."""
    parts = parts_of(request)
    projects = await parts.stack.projects()
    return json_response(200, {"projects": projects, "jobs": [job.shown() for job in parts.jobs.all()]})


@router.get("/api/labs")
async def labs(request: Request) -> Response:
    """Weeks and days with their last results."""
    return json_response(200, await asyncio.to_thread(parts_of(request).runs.days))


@router.get("/api/logs/{project}/{service}")
async def logs(request: Request, project: str, service: str, lines: Lines = 60) -> Response:
    """The last lines of a service."""
    try:
        found = await parts_of(request).stack.logs(project, service, lines)
    except RuntimeProblem as problem:
        raise Problem(503, "runtime_problem", "The runtime does not answer", detail=str(problem)) from None
    return json_response(200, {"lines": found})


@router.get("/api/dashboards")
async def dashboards(request: Request) -> Response:
    """All of them, without data."""
    found = await asyncio.to_thread(parts_of(request).dashboards.all)
    return json_response(200, [{"uid": one.uid, "title": one.title, "tags": one.tags} for one in found])


@router.get("/api/dashboards/{uid}")
async def dashboard(request: Request, uid: str) -> Response:
    """Its panels, without data."""
    found = await asyncio.to_thread(parts_of(request).dashboards.get, uid)
    panels = [
        {
            "id": panel.id,
            "type": panel.type,
            "title": panel.title,
            "description": panel.description,
            "place": panel.place,
            "defaults": panel.field.defaults,
        }
        for panel in found.drawn()
    ]
    return json_response(200, {"uid": found.uid, "title": found.title, "panels": panels})


@router.get("/api/dashboards/{uid}/data")
async def dashboard_data(request: Request, uid: str, project: Project = "dev", minutes: Minutes = 15) -> Response:
    """What Prometheus says to each panel."""
    if minutes not in WINDOWS:
        allowed = ", ".join(str(one) for one in WINDOWS)
        raise Problem(422, "invalid_window", "This is no window of the charts", detail=f"Minutes are one of {allowed}.")
    parts = parts_of(request)
    found = await asyncio.to_thread(parts.dashboards.get, uid)
    base = await parts.endpoints.of("prometheus", project)
    return json_response(200, await parts.prometheus.dashboard(base, found, minutes))


@router.get("/api/chaos")
async def chaos(request: Request) -> Response:
    """What can be broken, and where."""
    parts = parts_of(request)
    return json_response(200, await parts.scripts.all(await parts.stack.running("dev")))


@router.post("/api/jobs")
async def start_job(request: Request) -> Response:
    """Run one of the allowed `make` lines."""
    wanted = await read_json(request, StartJob)
    try:
        command = commands.parse(wanted.command, prediction=wanted.prediction)
    except commands.NotAllowedError as refused:
        raise Problem(422, "command_not_allowed", "The console does not run this", detail=str(refused)) from None
    job = await parts_of(request).jobs.start(command)
    return json_response(201, job.shown(), {"Location": f"/api/jobs/{job.id}"})


@router.get("/api/jobs/{job_id}")
async def job(request: Request, job_id: str) -> Response:
    """How it stands."""
    return json_response(200, parts_of(request).jobs.get(job_id).shown())


@router.post("/api/jobs/{job_id}/cancel")
async def cancel_job(request: Request, job_id: str) -> Response:
    """Ctrl-C. The answer comes at once; the job ends when it has healed."""
    return json_response(202, parts_of(request).jobs.cancel(job_id).shown())


async def known_job(request: Request, job_id: str) -> Job:
    """Before the answer begins: within it there is no 404 any more."""
    return parts_of(request).jobs.get(job_id)


@router.get("/api/jobs/{job_id}/events", response_class=EventSourceResponse)
async def job_events(
    request: Request, followed: Annotated[Job, Depends(known_job)], after: After = 0
) -> AsyncIterator[ServerSentEvent]:
    """Its output and progress as they come. A browser that lost the connection goes on at Last-Event-ID."""
    jobs = parts_of(request).jobs
    last = request.headers.get("last-event-id", "")
    begin = min(int(last), 10_000_000) if last.isascii() and last.isdigit() and len(last) < 10 else after
    async for event in jobs.follow(followed, begin):
        yield ServerSentEvent(event=event.kind, id=str(event.number), raw_data=msgspec.json.encode(event.data).decode())


@router.get("/api/traces/services")
async def trace_services(request: Request, project: Project = "dev") -> Response:
    """Who has sent spans."""
    parts = parts_of(request)
    return json_response(200, await parts.traces.services(await parts.endpoints.of("jaeger", project)))


@router.get("/api/traces")
async def traces(request: Request, service: Name, project: Project = "dev", minutes: Minutes = 60) -> Response:
    """The newest traces that a service took part in."""
    parts = parts_of(request)
    found = await parts.traces.search(await parts.endpoints.of("jaeger", project), service, minutes)
    return json_response(200, [one.summary() for one in found])


@router.get("/api/traces/{trace_id}")
async def trace(request: Request, trace_id: str, project: Project = "dev") -> Response:
    """One trace with its spans."""
    parts = parts_of(request)
    return json_response(200, await parts.traces.get(await parts.endpoints.of("jaeger", project), trace_id))


@router.get("/api/traces/{trace_id}/logs")
async def trace_logs(request: Request, trace_id: str, project: Project = "dev") -> Response:
    """The newest log lines of all services that carry its id."""
    if not TRACE_ID.fullmatch(trace_id):
        raise NoSuchTrace
    try:
        found = await parts_of(request).stack.lines_with(project, trace_id)
    except RuntimeProblem as problem:
        raise Problem(503, "runtime_problem", "The runtime does not answer", detail=str(problem)) from None
    return json_response(200, [{"service": service, "line": line} for service, line in found])


@router.get("/api/story")
async def story(request: Request) -> Response:
    """The newest story through all systems as far as it is told; null if there was none."""
    root = parts_of(request).settings.root
    told = await asyncio.to_thread(record.read, root)
    return json_response(200, {"story": told, "silent_seconds": await asyncio.to_thread(record.silent_seconds, root)})


@router.get("/api/alerts")
async def alerts(request: Request, project: Project = "dev") -> Response:
    """What fires, and what was received."""
    parts = parts_of(request)
    return json_response(200, await parts.alerts.board(await parts.endpoints.of("alertmanager", project)))


@router.post("/alerts")
async def receive_alerts(request: Request) -> Response:
    """Alertmanager's webhook."""
    parts_of(request).alerts.receive(await read_json(request, Message))
    return Response(status_code=204)
