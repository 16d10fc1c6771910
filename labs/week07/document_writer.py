"""Puts documents into the cluster as the indexer does, one at a time, so that a client can say what was acknowledged.

Several addresses, a deadline, a version on each write: what was not acknowledged may be sent again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from services.kit.errors import Problem
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.settings import ProcessSettings, load
from services.search.engine import Engine, EngineError, Fate, Write

WITHIN_SECONDS = 8.0
ATTEMPT_SECONDS = 1.0
PAUSE_SECONDS = 0.2
TRIED_AGAIN = frozenset({Fate.BUSY, Fate.FAILED, Fate.NO_INDEX})


class NewDocument(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    title: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    nodes = os.environ["WRITER_ENGINE_URLS"].split(",")
    async with Engine(nodes, timeout=ATTEMPT_SECONDS * len(nodes), attempt=ATTEMPT_SECONDS) as engine:
        app.state.engine = engine
        yield


process = load(ProcessSettings)
app = service_app("week07-day5-writer", process, lifespan=lifespan)


async def put(engine: Engine, write: Write) -> bool:
    """Whether the engine has it, in this version or a later one; False if it did not say so in time."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + WITHIN_SECONDS
    while loop.time() < give_up_at:
        try:
            (written,) = await engine.bulk([write])
        except EngineError:
            written = None
        if written is not None and written.fate not in TRIED_AGAIN:
            return written.fate is not Fate.REFUSED
        await asyncio.sleep(PAUSE_SECONDS)
    return False


@app.put("/v1/documents/{document_id}")
async def put_document(document_id: str, request: Request) -> Response:
    new = await read_json(request, NewDocument)
    body = msgspec.json.encode({"id": document_id, "title": new.title})
    write = Write(f"{process.lab_prefix}products", document_id, new.version, body)
    if not await put(request.app.state.engine, write):
        raise Problem(503, "not_written", "The engine did not say that it has the document")
    return json_response(200, {"id": document_id, "version": new.version})


if __name__ == "__main__":
    serve(app, process, name="week07-day5-writer")
