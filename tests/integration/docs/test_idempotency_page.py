"""The schema that the page gives away can be pasted into Postgres as it stands."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import asyncpg
import pytest

from tests.servers import PostgresServer

PAGE = Path(__file__).resolve().parents[3] / "docs" / "idempotency-strategy.md"


@pytest.mark.integration
async def test_the_schema_of_the_page_is_one_that_postgres_takes(postgres_server: PostgresServer) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert blocks
    database = f"page_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres_server.admin_url)
    try:
        await admin.execute(f"CREATE DATABASE {database}")
        connection = await asyncpg.connect(postgres_server.url(database))
        try:
            for block in blocks:
                await connection.execute(block)
            rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            assert {row["tablename"] for row in rows} == {"operations", "idempotency_keys", "outbox"}
        finally:
            await connection.close()
            await admin.execute(f"DROP DATABASE {database}")
    finally:
        await admin.close()
