"""The pages, the files they are made of, and errors that a person can read."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from labs.console import course
from labs.console.api import parts_of
from labs.console.guard import REPORT_CSP
from labs.console.traces import TRACE_ID, NoSuchTrace
from labs.story import record
from services.kit.errors import Problem

if TYPE_CHECKING:
    from labs.console.app import Parts

HERE = Path(__file__).parent
STATIC = {"console.js": "text/javascript", "console.css": "text/css", "icon.svg": "image/svg+xml"}
REVALIDATED = {"Cache-Control": "no-cache"}

router = APIRouter()
_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)  # fmt: skip


def render(parts: Parts, template: str, **values: object) -> str:
    """A page with what all pages need."""
    weeks = course.weeks(parts.settings.root)
    return _templates.get_template(template).render(token=parts.token, weeks=weeks, **values)


@router.get("/")
async def home(request: Request) -> Response:
    """All on one page."""
    return HTMLResponse(await asyncio.to_thread(render, parts_of(request), "home.html.j2"))


@router.get("/course/{path:path}")
async def course_page(request: Request, path: str) -> Response:
    """A page of the repository, a source, or a picture of a page."""
    parts = parts_of(request)
    return await asyncio.to_thread(_course_page, parts, path)


def _course_page(parts: Parts, path: str) -> Response:
    root = parts.settings.root
    file = course.locate(root, path)
    if file.suffix in course.IMAGES:
        return FileResponse(file, media_type=course.IMAGES[file.suffix], headers=REVALIDATED)
    shown = file.relative_to(root).as_posix()
    if shown != path:
        return RedirectResponse(f"{course.BASE}/{shown}", 307)
    return HTMLResponse(render(parts, "course.html.j2", page=course.read(root, file)))


@router.get("/traces/{trace_id}")
async def trace_page(request: Request, trace_id: str, project: str = "dev") -> Response:
    """A waterfall; its spans are fetched by the page."""
    if not TRACE_ID.fullmatch(trace_id):
        raise NoSuchTrace
    values = {"trace_id": trace_id, "project": "lab" if project == "lab" else "dev"}
    return HTMLResponse(await asyncio.to_thread(render, parts_of(request), "trace.html.j2", **values))


@router.get("/story")
async def story_page(request: Request) -> Response:
    """One checkout through all systems, live."""
    parts = parts_of(request)
    told = await asyncio.to_thread(record.read, parts.settings.root)
    return HTMLResponse(await asyncio.to_thread(render, parts, "story.html.j2", story=told))


@router.get("/reports/{lab}/{run}/{path:path}")
async def report(request: Request, lab: str, run: str, path: str) -> Response:
    """A run's report and raw files."""
    file, media_type = await asyncio.to_thread(parts_of(request).runs.file, lab, run, path)
    return FileResponse(file, media_type=media_type, headers={"Content-Security-Policy": REPORT_CSP})


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """Our own files, and the charting script from the installed package."""
    if name == "plotly.min.js":
        return FileResponse(parts_of(request).plotly, media_type="text/javascript", headers=REVALIDATED)
    if name not in STATIC:
        raise HTTPException(404, "There is no such file")
    return FileResponse(HERE / "static" / name, media_type=STATIC[name], headers=REVALIDATED)


@router.get("/favicon.ico")
async def favicon() -> Response:
    """Browsers ask for it by themselves."""
    return RedirectResponse("/static/icon.svg", 308)


def add_error_pages(app: FastAPI) -> None:
    """A person who follows a link gets a page, a program the problem document."""
    handlers = dict(app.exception_handlers)

    async def shown(request: Request, error: Exception) -> Response:
        asked = request.headers.get("accept", "")
        if request.url.path.startswith("/api/") or "text/html" not in asked or request.method != "GET":
            answer = handlers[_kind(error)](request, error)
            return answer if isinstance(answer, Response) else await answer
        status, title, detail = _told(error)
        page = render(parts_of(request), "error.html.j2", status=status, title=title, detail=detail)
        return HTMLResponse(page, status)

    for kind in (Problem, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, shown)


def _kind(error: Exception) -> type[Exception]:
    return next(kind for kind in (Problem, RequestValidationError, HTTPException) if isinstance(error, kind))


def _told(error: Exception) -> tuple[int, str, str]:
    if isinstance(error, Problem):
        return error.status, error.title, error.detail or ""
    if isinstance(error, HTTPException):
        return error.status_code, HTTPStatus(error.status_code).phrase, "The address may be mistyped."
    return 422, "The request is not valid", ""
