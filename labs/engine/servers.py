"""Which versions of the servers a run had: asked of the servers themselves, where they tell."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import aiohttp
import asyncpg
import msgspec

from infra.runtime import Runtime
from labs.engine import folder
from labs.engine.evidence import DATABASE_ERRORS

ASK_SECONDS = 3.0
NOT_TOLD = "not told"
SILENT = (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, EOFError, *DATABASE_ERRORS)

Ask = Callable[[Runtime, aiohttp.ClientSession], Awaitable[str]]


async def _postgres(runtime: Runtime, _: aiohttp.ClientSession) -> str:
    host, port = runtime.address("postgres")
    password = runtime.variable("POSTGRES_PASSWORD")
    connection = await asyncpg.connect(host=host, port=port, user="postgres", password=password, database="postgres")
    try:
        return str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close(timeout=ASK_SECONDS)


async def _redis(runtime: Runtime, _: aiohttp.ClientSession) -> str:
    """Inline commands (https://redis.io/docs/latest/develop/reference/protocol-spec/#inline-commands)."""
    reader, writer = await asyncio.open_connection(*runtime.address("redis"))
    try:
        writer.write(b"INFO server\r\n")
        length = int((await reader.readline()).strip().lstrip(b"$"))
        text = (await reader.readexactly(length)).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    found = re.search(r"^redis_version:(\S+)", text, re.MULTILINE)
    return found[1] if found else NOT_TOLD


async def _toxiproxy(runtime: Runtime, session: aiohttp.ClientSession) -> str:
    text = await _get(session, runtime.address("toxiproxy"), "/version")
    try:
        return str(msgspec.json.decode(text)["version"])
    except (msgspec.DecodeError, TypeError):
        return text.decode().strip()


async def _prometheus(runtime: Runtime, session: aiohttp.ClientSession) -> str:
    answer = msgspec.json.decode(await _get(session, runtime.address("prometheus"), "/api/v1/status/buildinfo"))
    return str(answer["data"]["version"])


async def _get(session: aiohttp.ClientSession, address: tuple[str, int], path: str) -> bytes:
    host, port = address
    async with session.get(f"http://{host}:{port}{path}") as answer:
        answer.raise_for_status()
        return await answer.read()


ASK: Mapping[str, Ask] = {
    "postgres": _postgres,
    "redis": _redis,
    "toxiproxy": _toxiproxy,
    "prometheus": _prometheus,
}


async def versions(
    runtime: Runtime,
    session: aiohttp.ClientSession,
    services: Iterable[str],
    root: Path,
    *,
    ask: Mapping[str, Ask] = ASK,
) -> dict[str, str]:
    """By service. One that does not tell, as Kafka, has the tag of its image in the compose file, which says so."""
    found = {}
    images = folder.images(root, services)
    for service in services:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                told = await ask[service](runtime, session) if service in ask else NOT_TOLD
        except SILENT:
            told = NOT_TOLD
        tag = images.get(service, "").rpartition(":")[2]
        found[service] = f"{tag} (of the image)" if told == NOT_TOLD and tag else told
    return found
