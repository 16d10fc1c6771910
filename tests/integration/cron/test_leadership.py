"""Three schedulers, one leader: it dies, is paused, steps down, loses its store; every effect happens once."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time

import pytest

from tests.integration.cron.one_way import Direction, OneWayProxy
from tests.integration.cron.stack import NODES, Process, Stack, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LEASE_SECONDS = 1.0


async def cluster(stack: Stack) -> dict[str, Process]:
    """API and three schedulers, by node."""
    _api, *nodes = await asyncio.gather(stack.start("api"), *(stack.start(node) for node in NODES))
    await until(stack.leader, what="a leader")
    return {node.role: node for node in nodes}


async def effects(stack: Stack, more: int) -> bool:
    """Wait for so many further effects."""
    seen = len(stack.target.applied)
    return await until(lambda: _at_least(stack, seen + more), what=f"{more} more effects")


async def _at_least(stack: Stack, count: int) -> bool:
    return len(stack.target.applied) >= count


async def assert_each_instant_once(stack: Stack) -> None:
    """No instant between the first and the last row is without one, and none had two effects."""
    rows = await stack.sql("SELECT job_id, scheduled_for, state FROM runs ORDER BY job_id, scheduled_for")
    by_job: dict[object, list[float]] = {}
    for row in rows:
        by_job.setdefault(row["job_id"], []).append(row["scheduled_for"].timestamp())
    for instants in by_job.values():
        assert [b - a for a, b in itertools.pairwise(instants)] == [1.0] * (len(instants) - 1)
    done = [(call.job, call.scheduled_for) for call in stack.target.applied]
    assert len(done) == len(set(done))


async def test_a_job_is_fired_at_each_of_its_instants_with_run_id_and_epoch(stack: Stack) -> None:
    stack.extra["CRON_LEASE_SECONDS"] = "10"  # no machine is so slow that the first leader loses it
    await cluster(stack)
    job = await stack.create("each-second", target={"http": {"url": stack.target.url, "body": {"a": [1]}}})
    await effects(stack, 3)
    first, second, *_ = stack.target.applied
    assert first.job == job
    assert first.run != second.run
    assert first.run.startswith("run_")
    assert first.body == b'{"a":[1]}'
    assert first.epoch == 1
    await assert_each_instant_once(stack)
    (row,) = await stack.sql("SELECT * FROM runs ORDER BY scheduled_for LIMIT 1")
    assert (row["state"], row["epoch"], row["status"], row["attempts"]) == ("fired", 1, 200, 1)


async def test_a_killed_leader_is_followed_soon_after_its_lease(stack: Stack) -> None:
    nodes = await cluster(stack)
    await stack.create("each-second")
    await effects(stack, 2)
    leader = await until(stack.leader, what="a leader")
    killed = time.monotonic()
    nodes[leader].kill()

    async def followed() -> bool:
        return stack.target.highest >= 2

    await until(followed, what="an effect of the next epoch")
    assert time.monotonic() - killed < LEASE_SECONDS + 10  # half a second on a machine that does nothing else
    await effects(stack, 2)
    assert await stack.leader() != leader
    await assert_each_instant_once(stack)


async def test_a_leader_told_to_stop_hands_over_at_once(stack: Stack) -> None:
    stack.extra["CRON_LEASE_SECONDS"] = "60"
    nodes = await cluster(stack)
    await stack.create("each-second")
    await effects(stack, 1)
    leader = await until(stack.leader, what="a leader")
    begun = time.monotonic()
    nodes[leader].popen.send_signal(signal.SIGTERM)

    async def followed() -> bool:
        return bool(await stack.sql("SELECT 1 FROM leases WHERE epoch = 2"))

    await until(followed, what="the next epoch")
    assert time.monotonic() - begun < 30, "it waited for the lease to end"
    assert nodes[leader].popen.wait(10) == 0
    await effects(stack, 2)
    await assert_each_instant_once(stack)


async def test_a_leader_paused_between_due_list_and_plan_writes_nothing_when_it_comes_back(stack: Stack) -> None:
    stack.extra["CRON_LEASE_SECONDS"] = "3"  # it must still lead when it is armed
    nodes = await cluster(stack)
    leader = await until(stack.leader, what="a leader")
    await stack.arm(nodes[leader], "cron.after_due_list", "stop")
    await stack.create("each-second")

    async def followed() -> bool:
        return stack.target.highest >= 2

    await until(followed, what="an effect of the next epoch")
    nodes[leader].popen.send_signal(signal.SIGCONT)
    await effects(stack, 3)
    await assert_each_instant_once(stack)
    assert all(call.epoch >= 2 for call in stack.target.calls)


async def test_a_leader_paused_just_before_its_effect_is_refused_by_the_target(stack: Stack) -> None:
    stack.extra["CRON_LEASE_SECONDS"] = "3"  # it must still lead when it is armed
    nodes = await cluster(stack)
    leader = await until(stack.leader, what="a leader")
    await stack.create("each-second")
    # With a connection open its call is out before it learns that it was replaced.
    await effects(stack, 1)
    await stack.arm(nodes[leader], "cron.before_effect", "stop")

    async def followed() -> bool:
        return stack.target.highest >= 2

    await until(followed, what="an effect of the next epoch")
    nodes[leader].popen.send_signal(signal.SIGCONT)

    async def came_late() -> bool:
        epochs = [call.epoch for call in stack.target.calls]
        return epochs != sorted(epochs)

    await until(came_late, what="the effect of the old epoch")
    await effects(stack, 2)
    applied = [call.epoch for call in stack.target.applied]
    assert applied == sorted(applied)
    await assert_each_instant_once(stack)


@pytest.mark.parametrize("direction", ["requests", "answers"])
async def test_a_leader_that_hears_or_reaches_its_store_no_more_is_followed_and_acts_no_more(
    stack: Stack, direction: Direction
) -> None:
    proxy = OneWayProxy(stack.postgres.port)
    port = await proxy.start()
    through = stack.app_url.replace(f":{stack.postgres.port}/", f":{port}/")
    try:
        await stack.start("api")
        await stack.start("node-1", environment={"CRON_DATABASE_URL": through})
        await until(stack.leader, what="a leader")
        await stack.start("node-2")
        await stack.create("each-second")
        await effects(stack, 2)
        proxy.lose(direction)

        async def followed() -> bool:
            return proxy.bytes_lost > 0 and stack.target.highest >= 2

        await until(followed, what="an effect of the next epoch while bytes are lost")
        await effects(stack, 2)
        proxy.heal()
        await effects(stack, 3)
    finally:
        await proxy.stop()
    applied = [call.epoch for call in stack.target.applied]
    assert applied == sorted(applied)
    await assert_each_instant_once(stack)
