"""The one-shot migration: idempotent, safe twice at once, least rights, demo merchants in the lab only."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.integration.payments.stack import Stack
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration


async def migrate(stack: Stack, **environment: str) -> tuple[int, str]:
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.payments", "migrate",
        env={**stack.environment(), **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await run.communicate()
    return run.returncode or 0, output.decode()


async def test_four_at_once_on_two_databases_all_succeed_and_again_afterwards(postgres_server: PostgresServer) -> None:
    one, other = Stack(postgres_server), Stack(postgres_server)
    results = await asyncio.gather(*(migrate(stack) for stack in (one, other, one, other)))
    assert [code for code, _ in results] == [0, 0, 0, 0], results
    assert (await migrate(one))[0] == 0
    for stack in (one, other):
        assert len(await stack.sql("SELECT 1 FROM merchants")) == 2
        assert len(await stack.sql("SELECT 1 FROM alembic_version")) == 1
        assert len(await stack.sql("SELECT 1 FROM payment_transitions")) == 10


async def test_outside_the_lab_there_are_no_demo_merchants(postgres_server: PostgresServer) -> None:
    stack = Stack(postgres_server)
    url = postgres_server.url(stack.database, "payments_app", "of-our-own")
    try:
        assert (await migrate(stack, LAB_PROFILE="0", PAYMENTS_DATABASE_URL=url))[0] == 0
        assert not await stack.sql("SELECT 1 FROM merchants")
    finally:
        await migrate(stack)  # the role and its password belong to the whole server


async def test_the_migration_sets_no_default_password_outside_the_lab(postgres_server: PostgresServer) -> None:
    code, output = await migrate(Stack(postgres_server), LAB_PROFILE="0")
    assert code == 1
    assert "PAYMENTS_DATABASE_URL holds a default of the lab" in output


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PAYMENTS_DATABASE_URL", "postgresql://postgres:x@127.0.0.1/other", "same database"),
        ("PAYMENTS_ADMIN_DATABASE_URL", "postgresql://postgres:x@127.0.0.1:1/", "same database"),
    ],
)
async def test_settings_that_do_not_fit_are_said_in_a_sentence(
    postgres_server: PostgresServer, name: str, value: str, said: str
) -> None:
    code, output = await migrate(Stack(postgres_server), **{name: value})
    assert code == 1
    assert said in output
    assert "Traceback" not in output


async def test_a_default_secret_is_refused_outside_the_lab(stack: Stack) -> None:
    run = subprocess.run(  # noqa: ASYNC221  # ends at once
        [sys.executable, "-m", "services.payments", "api"],
        env={**stack.environment(), "LAB_PROFILE": "0", "HTTP_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 1
    assert "holds a default of the lab" in run.stderr
    assert "lab-only" not in run.stderr
