"""A small process on the shell of our services: says whether it leads, reads its clock, passes a failpoint by name.

`python leading_process.py PORT 0|1`: the second argument is what `toy_leader` shows. POST /step/NAME passes `toy.step`.
"""

from __future__ import annotations

import sys

from fastapi import FastAPI
from prometheus_client import Gauge
from starlette.responses import Response

from services.kit.clock import SystemClock
from services.kit.failpoint import failpoint, register
from services.kit.http import serve, service_app
from services.kit.settings import ProcessSettings

register("toy.step")


def create() -> tuple[FastAPI, ProcessSettings]:
    process = ProcessSettings(lab_profile=True, http_port=int(sys.argv[1]))
    Gauge("toy_leader", "1 if it leads").set(float(sys.argv[2]))
    app = service_app("toy", process)

    @app.get("/health")
    async def health() -> Response:
        return Response("ok")

    @app.post("/step/{name}")
    async def step(name: str) -> Response:
        await failpoint("toy.step", name)
        return Response(SystemClock().now().isoformat())

    return app, process


if __name__ == "__main__":
    serve(*create(), name="toy")
