"""Databases and topics of a run: their prefix, and their removal afterwards."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Sequence

import aiohttp
import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from labs.engine.evidence import DATABASE_ERRORS, Stores

ALPHABET = string.ascii_lowercase + string.digits
ENGINE_CALL = aiohttp.ClientTimeout(total=10)
PREFIX = re.compile(r"^lab[a-z0-9]{5}_")


def new_prefix() -> str:
    """`lab` and five random characters, valid in database names, topics and groups alike."""
    return "lab" + "".join(secrets.choice(ALPHABET) for _ in range(5)) + "_"


async def drop(
    stores: Stores, *, prefix: str | None = None, keep: str | None = None, databases: bool = True, topics: bool = True
) -> str:
    """Drop databases and topics of one prefix, or of all but `keep`. Returns "" or a sentence on what is left."""

    doomed = _doomed(prefix, keep)
    left = [
        await _drop_databases(stores, doomed) if databases else "",
        await _drop_topics(stores, doomed) if topics else "",
    ]
    return f"not dropped: {' and '.join(filter(None, left))}" if any(left) else ""


def _doomed(prefix: str | None, keep: str | None) -> Callable[[str], bool]:
    def doomed(name: str) -> bool:
        if prefix is not None:
            return name.startswith(prefix)
        return PREFIX.match(name) is not None and (keep is None or not name.startswith(keep))

    return doomed


async def drop_indices(
    session: aiohttp.ClientSession, engines: Sequence[tuple[str, int]], prefix: str | None, keep: str | None
) -> str:
    """Delete the indices of one prefix, or of all but `keep`, with their aliases. Returns "" or what is left."""
    doomed = _doomed(prefix, keep)
    left = []
    for host, port in engines:
        base = f"http://{host}:{port}"
        try:
            async with session.get(f"{base}/_cat/indices?format=json&h=index", timeout=ENGINE_CALL) as answer:
                names = [one["index"] for one in msgspec.json.decode(await answer.read(), type=list[dict[str, str]])]
            for name in filter(doomed, names):
                async with session.delete(f"{base}/{name}", timeout=ENGINE_CALL) as answer:
                    answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, KeyError) as error:
            left.append(f"indices at {host}:{port} ({type(error).__name__})")
    return f"not dropped: {' and '.join(left)}" if left else ""


async def _drop_databases(stores: Stores, doomed: Callable[[str], bool]) -> str:
    try:
        connection = await stores.connect("postgres")
        try:
            for row in await connection.fetch("SELECT datname FROM pg_database"):
                if doomed(row["datname"]):
                    await connection.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}" WITH (FORCE)', timeout=20)
        finally:
            await connection.close(timeout=5)
    except DATABASE_ERRORS as error:
        return f"databases ({type(error).__name__}: {error})"
    return ""


async def _drop_topics(stores: Stores, doomed: Callable[[str], bool]) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
        if topics := [topic for topic in await admin.list_topics() if doomed(topic)]:
            await admin.delete_topics(topics)
    except (KafkaError, OSError, TimeoutError) as error:
        return f"topics ({type(error).__name__}: {error})"
    finally:
        await admin.close()
    return ""
