"""A copied database is as a migrated one: tables, rows, rights, owner."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import asyncpg
import pytest

from tests.databases import Copied, copy
from tests.integration.catalog.stack import Stack as CatalogStack
from tests.integration.payments.stack import Stack
from tests.servers import PostgresServer
from tests.stack import ServiceStack

pytestmark = pytest.mark.integration

TABLES = """
    SELECT c.relname, c.relkind::text, pg_get_userbyid(c.relowner), coalesce(array_to_string(c.relacl, ' '), '') FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1
"""
RIGHTS = """
    SELECT pg_get_userbyid(datdba), (SELECT string_agg(item::text, ' ' ORDER BY item::text) FROM unnest(datacl) AS item)
    FROM pg_database WHERE datname = $1
"""


async def described(stack: ServiceStack) -> list[object]:
    return [
        *map(tuple, await stack.sql(TABLES)),
        *map(tuple, await stack.sql(RIGHTS, stack.database)),
        *map(tuple, await stack.sql("SELECT pubname FROM pg_publication")),
        *map(tuple, await stack.sql("SELECT key_sha256 FROM api_keys ORDER BY 1")),
    ]


@pytest.fixture
def made(postgres_server: PostgresServer) -> Iterator[Callable[[type[ServiceStack]], ServiceStack]]:
    stacks: list[ServiceStack] = []

    def make(system: type[ServiceStack]) -> ServiceStack:
        stacks.append(system(postgres_server))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.stop()


@pytest.mark.parametrize("system", [Stack, CatalogStack])
async def test_a_copy_is_what_the_services_own_program_makes(
    made: Callable[[type[ServiceStack]], ServiceStack], system: type[ServiceStack]
) -> None:
    by_program, copied = made(system), made(system)
    await made(system).migrate()
    await by_program.migrate_by_program()
    assert await copy(copied.postgres, copied.template, copied.database) is Copied.DONE
    assert await described(copied) == await described(by_program)
    assert len(await described(copied)) > 5


async def test_what_is_there_is_kept_and_what_is_not_there_is_said(postgres_server: PostgresServer) -> None:
    one, other = f"one_{secrets.token_hex(4)}", f"other_{secrets.token_hex(4)}"
    assert await copy(postgres_server, one, other) is Copied.NO_SOURCE
    assert await copy(postgres_server, "template1", one) is Copied.DONE
    assert await copy(postgres_server, "template1", one) is Copied.WAS_THERE


async def test_a_database_that_is_there_is_migrated_by_the_program_again(
    made: Callable[[type[ServiceStack]], ServiceStack],
) -> None:
    stack = made(Stack)
    await stack.migrate()
    await stack.sql("DELETE FROM api_keys")
    await stack.migrate()
    assert len(await stack.sql("SELECT 1 FROM api_keys")) == 2


async def test_a_copy_can_be_used_although_another_password_was_set_on_the_server_meanwhile(
    made: Callable[[type[ServiceStack]], ServiceStack],
) -> None:
    await made(Stack).migrate()
    stack = made(Stack)
    admin = await asyncpg.connect(stack.postgres.admin_url)
    await admin.execute("ALTER ROLE payments_app PASSWORD 'of-somebody-else'")
    await admin.close()
    await stack.migrate()
    connection = await asyncpg.connect(stack.app_url)
    await connection.close()
