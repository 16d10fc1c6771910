"""The console as an application: composition root and lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import aiohttp
from fastapi import FastAPI

from labs.console import api, pages
from labs.console.alerts import Alerts
from labs.console.chaos import Scripts
from labs.console.dashboards import Dashboards
from labs.console.endpoints import Endpoints
from labs.console.guard import Guard, new_token
from labs.console.jobs import Jobs
from labs.console.prometheus import Prometheus
from labs.console.runs import Runs
from labs.console.settings import HOST, Settings
from labs.console.stack import Stack
from labs.console.traces import TraceStore
from services.kit.http import service_app
from services.kit.settings import ProcessSettings

NAME = "console"
DRAIN_SECONDS = 1
"""Open pages hold a connection for progress; none of them is worth waiting for."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    settings: Settings
    token: str
    jobs: Jobs
    stack: Stack
    runs: Runs
    dashboards: Dashboards
    scripts: Scripts
    prometheus: Prometheus
    traces: TraceStore
    alerts: Alerts
    endpoints: Endpoints
    plotly: Path


def process_settings(settings: Settings) -> ProcessSettings:
    """Of the HTTP shell that all our processes have."""
    return ProcessSettings(
        lab_profile=False, http_host=HOST, http_port=settings.port, otlp_endpoint="", drain_seconds=DRAIN_SECONDS
    )


def create_app(settings: Settings, *, token: str | None = None) -> FastAPI:
    """`token` is for tests; by default it is a fresh one."""
    secret = token or new_token()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=16)
        async with aiohttp.ClientSession(trust_env=False, connector=connector) as http:
            parts = _parts(settings, secret, http)
            app.state.parts = parts
            try:
                yield
            finally:
                await parts.jobs.close()

    app = service_app(NAME, process_settings(settings), lifespan=lifespan)
    app.add_middleware(Guard, token=secret, port=settings.port)
    app.include_router(api.router)
    app.include_router(pages.router)
    pages.add_error_pages(app)
    return app


def _parts(settings: Settings, token: str, http: aiohttp.ClientSession) -> Parts:
    stack = Stack(settings.root)
    return Parts(
        settings=settings,
        token=token,
        jobs=Jobs(settings.root, settings.programs),
        stack=stack,
        runs=Runs(settings.root, settings.lab_modules),
        dashboards=Dashboards(settings.root),
        scripts=Scripts(settings.root, settings.programs["infra"]),
        prometheus=Prometheus(http),
        traces=TraceStore(http),
        alerts=Alerts(http),
        endpoints=Endpoints(stack, settings.endpoints),
        plotly=charting_script(),
    )


def charting_script() -> Path:
    """The file that plotly's package carries; importing the package would cost memory for nothing."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"
