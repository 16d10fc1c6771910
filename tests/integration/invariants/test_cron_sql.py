"""The cron invariants' own SQL on real tables: those of sim-target, of the naive program and of the service."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from labs.engine.model import Operation, Outcome, Phase, Row, Status
from labs.invariants import cron as c
from labs.invariants.payments import type_id
from services.simulators.target.store import prepare_database
from tests.servers import PostgresServer
from tests.unit.invariants.evidence import ListedEvidence

pytestmark = pytest.mark.integration

# The columns that the scheduler promises to checkers.
SERVICE = """
CREATE TABLE jobs (id uuid PRIMARY KEY, name text);
CREATE TABLE runs (id uuid, job_id uuid, scheduled_for timestamptz, state text, reason text, epoch bigint, fired_at timestamptz);
"""
NAIVE = """
CREATE TABLE jobs (id text PRIMARY KEY, name text);
CREATE TABLE runs (id bigserial, job_id text, scheduled_for timestamptz, state text, node text, fired_at timestamptz);
"""
JOB = UUID(int=7)
NAME = type_id("job", str(JOB))


@dataclass
class RealEvidence(ListedEvidence):
    """One database holds both sides here; the names of their tables differ."""

    connection: asyncpg.Connection | None = None

    async def sql(self, database: str, query: str, *args: object) -> Sequence[Row]:
        assert database in ("cron", "target")
        assert self.connection is not None
        return await self.connection.fetch(query, *args)


@pytest.fixture
async def connection(postgres_server: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    url = postgres_server.url(f"cron_sql_{os.getpid()}")
    await prepare_database(url)
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE IF EXISTS jobs, runs; TRUNCATE effects")
    yield connection
    await connection.close()


def evidence(connection: asyncpg.Connection, anchor: datetime) -> RealEvidence:
    result = {"job": NAME, "anchor": anchor.isoformat(), "every_seconds": "2", "target": "both"}
    operation = Operation(
        id="1", key="o1-000001", kind="job", phase=Phase.INJECT, intended_at=1.0, sent_at=1.0, done_at=2.0, attempts=1,
        status=201, outcome=Outcome.OK, error=None, result=result,
    )  # fmt: skip
    return RealEvidence(history=(operation,), connection=connection)


@pytest.mark.parametrize("naive", [True, False])
async def test_the_queries_read_the_tables_of_both_programs(connection: asyncpg.Connection, naive: bool) -> None:
    await connection.execute(NAIVE if naive else SERVICE)
    anchor = datetime.now(UTC) - timedelta(seconds=11)
    job = NAME if naive else JOB
    await connection.execute("INSERT INTO jobs (id, name) VALUES ($1, 'o1-000001-both')", job)
    for number in range(1, 6):
        due = anchor + timedelta(seconds=2 * number)
        await connection.execute(
            "INSERT INTO runs (job_id, scheduled_for, state, fired_at) VALUES ($1, $2, 'fired', $2)", job, due
        )
        await connection.execute(
            "INSERT INTO effects (target, run_id, job_id, scheduled_for, epoch, at, applied, reason)"
            " VALUES ('both', $1, $2, $3, 1, $4, true, 'applied')", f"run_{number}", NAME, due.isoformat(), due,
        )  # fmt: skip
    world = evidence(connection, anchor)
    for invariant in (
        c.every_instant_has_one_row,
        c.no_double_effect,
        c.effects_agree_with_rows,
        c.nothing_fired_early,
    ):
        assert (await invariant(world)).status is Status.HELD, invariant.__name__
    assert await c.jobs_by_key(world) == {"o1-000001": 1}
    await connection.execute("INSERT INTO effects SELECT nextval('effects_id_seq'), target, run_id, job_id, scheduled_for,"
                             " epoch, at, applied, reason FROM effects WHERE run_id = 'run_1'")  # fmt: skip
    await connection.execute("DELETE FROM runs WHERE scheduled_for = $1", anchor + timedelta(seconds=4))
    assert (await c.no_double_effect(world)).offenders == ("o1-000001@1",)
    assert (await c.every_instant_has_one_row(world)).offenders == ("o1-000001@2",)
    assert (await c.effects_agree_with_rows(world)).offenders == ("o1-000001@2",)
