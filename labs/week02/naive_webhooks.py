"""Webhooks as most people would write them first: for each endpoint, try three times, then answer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from labs.week02.infrastructure import ensure_database
from services.kit import ids
from services.kit.failpoint import failpoint, register
from services.kit.http import json_response, read_json, serve, service_app
from services.kit.settings import ProcessSettings, load

log = logging.getLogger(__name__)

ATTEMPTS = 3
TIMEOUT = aiohttp.ClientTimeout(total=1)
TABLES = """
CREATE TABLE IF NOT EXISTS endpoints (id text PRIMARY KEY, url text NOT NULL, event_types text[] NOT NULL);
CREATE TABLE IF NOT EXISTS messages (event_id text PRIMARY KEY, event_type text NOT NULL, created_at timestamptz DEFAULT now());
"""

register("webhooks.before_attempt", "webhooks.after_response")


class NewEndpoint(msgspec.Struct):
    url: str
    event_types: list[str]


class Event(msgspec.Struct):
    event_id: str
    event_type: str
    payload: msgspec.Raw


class Webhooks:
    def __init__(self, db: asyncpg.Pool[asyncpg.Record], http: aiohttp.ClientSession) -> None:
        self.db, self.http = db, http

    async def publish(self, event: Event) -> Response:
        await self.db.execute(
            "INSERT INTO messages (event_id, event_type) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            event.event_id, event.event_type,
        )  # fmt: skip
        rows = await self.db.fetch("SELECT url FROM endpoints WHERE $1 = ANY (event_types)", event.event_type)
        await asyncio.gather(*(self.deliver(row["url"], event) for row in rows))
        return json_response(202, {"id": event.event_id, "event_id": event.event_id})

    async def deliver(self, url: str, event: Event) -> None:
        headers = {"webhook-id": event.event_id, "content-type": "application/json"}
        for _ in range(ATTEMPTS):
            try:
                await failpoint("webhooks.before_attempt")
                async with self.http.post(url, data=msgspec.json.encode(event), headers=headers) as answer:
                    await answer.read()
                    await failpoint("webhooks.after_response")
                    answer.raise_for_status()
                    return
            except (aiohttp.ClientError, TimeoutError) as error:
                log.warning("delivery failed", extra={"url": url, "error": type(error).__name__})
        log.error("gave up", extra={"url": url, "event": event.event_id})


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = os.environ["NAIVE_DATABASE_URL"]
    await ensure_database(url, TABLES)
    http = aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0))
    async with asyncpg.create_pool(url) as db, http:
        app.state.webhooks = Webhooks(db, http)
        yield


process = load(ProcessSettings)
app = service_app("week02-day4-naive", process, lifespan=lifespan)


@app.post("/v1/endpoints")
async def create_endpoint(request: Request) -> Response:
    wanted = await read_json(request, NewEndpoint)
    endpoint = ids.encode("ep", ids.uuid7())
    await request.app.state.webhooks.db.execute(
        "INSERT INTO endpoints (id, url, event_types) VALUES ($1, $2, $3)", endpoint, wanted.url, wanted.event_types
    )
    return json_response(201, {"id": endpoint, "url": wanted.url, "enabled": True})


@app.post("/v1/messages")
async def create_message(request: Request) -> Response:
    webhooks: Webhooks = request.app.state.webhooks
    return await webhooks.publish(await read_json(request, Event))


if __name__ == "__main__":
    serve(app, process, name="week02-day4-naive")
