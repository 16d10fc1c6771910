"""A notebook over HTTP: what all variants of this lab share. How a note is kept, and when its client hears of it, is theirs."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Protocol

import msgspec
from fastapi import FastAPI, Request
from prometheus_client import Counter
from starlette.responses import Response

from services.kit.deadline import Deadlines
from services.kit.errors import Problem
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.postgres import Pool, create_database, create_pool
from services.kit.settings import ProcessSettings, load
from services.patterns.deadline import Budget

TABLE = """CREATE TABLE IF NOT EXISTS notes (
    key text PRIMARY KEY, text text NOT NULL, kept_at timestamptz NOT NULL DEFAULT now())"""
INSERT = "INSERT INTO notes (key, text) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"
"""A note that comes twice is kept once."""
KEY = re.compile(r"[ -~]{1,200}")
CREATION_LOCK = 7_100_000_000
GRANTED = Budget(default=1.0, maximum=10.0)

ABANDONED = Counter(
    "notes_requests_abandoned_total", "Requests whose deadline was over or whose caller left", ["reason"]
)
WASTED = Counter("notes_wasted_work_seconds_total", "Time of those requests", ["reason"])


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of PUT /v1/notes/{key}."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class Keeper(Protocol):
    """What the variants differ in."""

    async def keep(self, key: str, text: str) -> None:
        """When this returns, the client is told that its note is kept. Raises Problem."""

    async def close(self) -> None:
        """At a polite end, when no request is under way any more."""


def create_app(name: str, process: ProcessSettings, database_url: str, keeper_of: Callable[[Pool], Keeper]) -> FastAPI:
    """The application, with health, metrics and deadlines as every service has them."""
    running: list[Keeper] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await create_database(database_url, TABLE, lock=CREATION_LOCK)
        async with await create_pool(database_url, name=name) as pool:
            running.append(keeper_of(pool))
            yield
            await running.pop().close()

    app = service_app(name, process, lifespan=lifespan, deadlines=Deadlines(GRANTED, ABANDONED, WASTED))

    @app.put("/v1/notes/{key}", status_code=201)
    async def keep(key: str, request: Request) -> Response:
        """Keep a note under a key of the client's own."""
        note = await read_json(request, Text)
        if not KEY.fullmatch(key):
            raise Problem(422, "invalid_key", "A key is 1 to 200 printable characters")
        await running[0].keep(key, note.text)
        return json_response(201, {"key": key})

    return app


def run(name: str, keeper_of: Callable[[Pool], Keeper]) -> None:
    """The process: settings from the environment, as docker-compose.yml gives them."""
    process = load(ProcessSettings)
    serve(create_app(name, process, os.environ["NOTES_DATABASE_URL"], keeper_of), process, name=name)
