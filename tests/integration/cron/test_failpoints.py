"""Kill the leader at every failpoint: the next one finishes, and the target applies each run once."""

from __future__ import annotations

import asyncio
import itertools

import aiohttp
import pytest

from services.cron import failpoints
from tests.integration.cron.stack import Stack, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("point", failpoints.SCHEDULER)
async def test_whoever_follows_a_leader_that_died_here_finishes_its_work(stack: Stack, point: str) -> None:
    await stack.start("api")
    first = await stack.start("node-1")
    await until(stack.leader, what="a leader")
    await stack.arm(first, point)
    await stack.create("often")
    await until(first.dead, what="death")
    assert first.popen.returncode == -9
    await stack.start("node-2", environment={"CRON_LEASE_SECONDS": "10"})  # a lease lost is a run fired again

    async def settled() -> bool:
        states = await stack.states()
        return states.get("fired", 0) + states.get("late", 0) >= 3

    await until(settled, what="three fired runs")
    rows = await stack.sql("SELECT scheduled_for FROM runs ORDER BY scheduled_for")
    instants = [row["scheduled_for"].timestamp() for row in rows]
    assert [b - a for a, b in itertools.pairwise(instants)] == [1.0] * (len(instants) - 1)
    done = [call.scheduled_for for call in stack.target.applied]
    assert len(done) == len(set(done))
    fired = await stack.sql("SELECT scheduled_for FROM runs WHERE state IN ('fired', 'late')")
    assert {row["scheduled_for"].strftime("%Y-%m-%dT%H:%M:%SZ") for row in fired} <= set(done)
    again = [call for call in stack.target.calls if not call.applied]
    assert len(again) == (1 if point == failpoints.AFTER_EFFECT else 0)
    assert not list(await stack.sql("SELECT 1 FROM runs WHERE state = 'firing' AND epoch < 2"))


async def test_an_api_that_dies_after_the_commit_has_made_the_job_once(stack: Stack) -> None:
    api = await stack.start("api", failpoints="cron.api.after_commit=kill")
    key = {"Idempotency-Key": "once"}
    with pytest.raises(aiohttp.ClientError):
        await stack.request("POST", "/v1/jobs", json=stack.body("once"), headers=key)
    await until(api.dead, what="death")
    await asyncio.gather(stack.start("api"))
    without = await stack.request("POST", "/v1/jobs", json=stack.body("once"))
    again = await stack.request("POST", "/v1/jobs", json=stack.body("once"), headers=key)
    assert (without.status, again.status) == (409, 201)
    assert without.json["job"] == again.json["id"]
    (row,) = await stack.sql("SELECT count(*) AS n FROM jobs")
    assert row["n"] == 1


def test_every_failpoint_is_walked() -> None:
    assert set(failpoints.ALL) == {*failpoints.SCHEDULER, failpoints.API_AFTER_COMMIT}
