"""Databases and topics of a run: their prefix, and their removal afterwards."""

from __future__ import annotations

import re
import secrets
import string

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from labs.engine.evidence import DATABASE_ERRORS, Stores

ALPHABET = string.ascii_lowercase + string.digits
PREFIX = re.compile(r"^lab[a-z0-9]{5}_")


def new_prefix() -> str:
    """`lab` and five random characters, valid in database names, topics and groups alike."""
    return "lab" + "".join(secrets.choice(ALPHABET) for _ in range(5)) + "_"


async def drop(stores: Stores, *, prefix: str | None = None, keep: str | None = None) -> str:
    """Drop databases and topics of one prefix, or of all but `keep`. Returns "" or a sentence on what is left."""

    def doomed(name: str) -> bool:
        if prefix is not None:
            return name.startswith(prefix)
        return PREFIX.match(name) is not None and (keep is None or not name.startswith(keep))

    left = []
    try:
        connection = await stores.connect("postgres")
        try:
            for row in await connection.fetch("SELECT datname FROM pg_database"):
                if doomed(row["datname"]):
                    await connection.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}" WITH (FORCE)', timeout=20)
        finally:
            await connection.close(timeout=5)
    except DATABASE_ERRORS as error:
        left.append(f"databases ({type(error).__name__}: {error})")
    admin = AIOKafkaAdminClient(bootstrap_servers=stores.bootstrap, request_timeout_ms=10_000)
    try:
        await admin.start()
        if topics := [topic for topic in await admin.list_topics() if doomed(topic)]:
            await admin.delete_topics(topics)
    except (KafkaError, OSError, TimeoutError) as error:
        left.append(f"topics ({type(error).__name__}: {error})")
    finally:
        await admin.close()
    return f"not dropped: {' and '.join(left)}" if left else ""
