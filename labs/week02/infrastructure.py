"""What a small program needs before it can begin: its database and a broker that is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from services.kit import kafka

RETRY_SECONDS = 0.5


async def ensure_database(url: str, tables: str) -> None:
    """Create the database of `url` and the tables in it, if they do not exist. Raises asyncpg errors."""
    parts = urlsplit(url)
    connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
    try:
        await connection.execute(f'CREATE DATABASE "{parts.path.lstrip("/")}"')
    except asyncpg.DuplicateDatabaseError:
        pass
    finally:
        await connection.close()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(tables)
    finally:
        await connection.close()


@asynccontextmanager
async def patient_producer(bootstrap: str, *, client_id: str) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer; waits for a broker that is away, as a restart policy would."""
    while True:
        producer = kafka.producer(bootstrap, client_id=client_id)
        try:
            await kafka.start(producer)
            break
        except (KafkaConnectionError, TimeoutError):
            await asyncio.sleep(RETRY_SECONDS)
    try:
        yield producer
    finally:
        await kafka.stop(producer)
