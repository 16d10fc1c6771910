"""Databases of a throwaway Postgres, copied instead of migrated anew: a migration starts a Python, which takes a second."""

from __future__ import annotations

from enum import Enum, auto
from urllib.parse import urlsplit

import asyncpg

from tests.servers import PostgresServer

_RIGHTS = """
    SELECT format('GRANT %s ON DATABASE %I TO %s', given.privilege_type, $2::text, given.grantee::regrole)
    FROM pg_database, aclexplode(datacl) AS given WHERE datname = $1 AND given.grantee <> 0
"""
"""A copy gets the tables and their rights, but not those of the database itself."""


class Copied(Enum):
    """What `copy` found."""

    DONE = auto()
    NO_SOURCE = auto()
    WAS_THERE = auto()
    """It is left as it was."""


async def copy(server: PostgresServer, source: str, name: str, *users: str) -> Copied:
    """Make `name` as `source` is, with the same owner and rights. `users` are URLs whose passwords are made good again:
    roles are the whole server's, and another test may have migrated with another password.

    Nobody may be connected to `source`: Postgres waits five seconds for those who leave and then refuses.
    """
    admin = await asyncpg.connect(server.admin_url, timeout=30)
    try:
        owner = await admin.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", source)
        if owner is None:
            return Copied.NO_SOURCE
        await admin.execute(await _formatted(admin, "CREATE DATABASE %I TEMPLATE %I OWNER %I", name, source, owner))
        await admin.execute(await _formatted(admin, "REVOKE ALL ON DATABASE %I FROM PUBLIC", name))
        for row in await admin.fetch(_RIGHTS, source, name):
            await admin.execute(row[0])
        for user in map(urlsplit, users):
            words = str(user.username), str(user.password)
            await admin.execute(await _formatted(admin, "ALTER ROLE %I PASSWORD %L", *words))
    except asyncpg.DuplicateDatabaseError:
        return Copied.WAS_THERE
    finally:
        await admin.close()
    return Copied.DONE


async def _formatted(admin: asyncpg.Connection[asyncpg.Record], statement: str, *names: str) -> str:
    arguments = ", ".join(f"${number}::text" for number in range(1, len(names) + 1))
    return str(await admin.fetchval(f"SELECT format('{statement}', {arguments})", *names))
