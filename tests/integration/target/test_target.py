"""The target applies a run once and refuses an old epoch, in one transaction, and says so in its record."""

from __future__ import annotations

import asyncio

import aiohttp
import asyncpg
import pytest

from tests.integration.target.conftest import Scheduler, TargetProcess
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration


async def reasons(record: asyncpg.Connection) -> list[str]:
    return [row["reason"] for row in await record.fetch("SELECT reason FROM effects ORDER BY id")]


async def hits(scheduler: Scheduler, name: str) -> int:
    """Of one switch; the listing also has those that other tests have switched off."""
    _, listing = await scheduler.call("GET", "/lab/behaviours")
    return sum(one["hits"] for one in listing if one["name"] == name)


async def test_a_run_is_applied_once_and_its_repetition_is_answered_as_done(
    scheduler: Scheduler, record: asyncpg.Connection
) -> None:
    assert await scheduler.fire("run_1", 5) == (200, {"applied": True, "reason": "applied"})
    assert await scheduler.fire("run_1", 6) == (200, {"applied": False, "reason": "duplicate_run"})
    assert await reasons(record) == ["applied", "duplicate_run"]


async def test_an_epoch_below_the_highest_seen_is_refused_and_told_which_that_is(
    scheduler: Scheduler, record: asyncpg.Connection
) -> None:
    await scheduler.fire("run_1", 7)
    status, body = await scheduler.fire("run_2", 6)
    assert (status, body["type"], body["highest_epoch"]) == (409, "urn:lab:stale_epoch", 7)
    assert await scheduler.fire("run_2", 7) == (200, {"applied": True, "reason": "applied"})
    assert await reasons(record) == ["applied", "stale_epoch", "applied"]


async def test_a_duplicate_of_a_higher_epoch_still_fences_off_the_lower_one(scheduler: Scheduler) -> None:
    await scheduler.fire("run_1", 1)
    assert (await scheduler.fire("run_1", 2))[1]["reason"] == "duplicate_run"
    assert (await scheduler.fire("run_2", 1))[0] == 409


async def test_what_brings_neither_run_nor_epoch_is_always_applied(
    scheduler: Scheduler, record: asyncpg.Connection
) -> None:
    await scheduler.fire("run_1", 9)
    for _ in range(2):
        assert await scheduler.fire(None, None) == (200, {"applied": True, "reason": "unguarded"})
    assert (await reasons(record)).count("unguarded") == 2


async def test_dedup_alone_obeys_a_deposed_leader(scheduler: Scheduler) -> None:
    await scheduler.fire("run_1", 2, "dedup-only")
    assert (await scheduler.fire("run_2", 1, "dedup-only"))[1] == {"applied": True, "reason": "applied"}
    assert (await scheduler.fire("run_2", 2, "dedup-only"))[1]["reason"] == "duplicate_run"


async def test_fencing_alone_does_a_dead_leaders_work_again(scheduler: Scheduler) -> None:
    await scheduler.fire("run_1", 1, "fencing-only")
    assert (await scheduler.fire("run_1", 2, "fencing-only"))[1] == {"applied": True, "reason": "applied"}
    assert (await scheduler.fire("run_1", 1, "fencing-only"))[0] == 409


async def test_the_three_targets_do_not_know_of_each_other(scheduler: Scheduler) -> None:
    await scheduler.fire("run_1", 9)
    assert (await scheduler.fire("run_1", 1, "fencing-only"))[1]["applied"] is True
    assert (await scheduler.fire("run_1", 1, "dedup-only"))[1]["applied"] is True


async def test_of_many_calls_of_one_run_at_once_one_is_applied(
    scheduler: Scheduler, record: asyncpg.Connection
) -> None:
    answers = await asyncio.gather(*(scheduler.fire("run_race", 1) for _ in range(30)))
    assert [status for status, _ in answers] == [200] * 30
    assert (await reasons(record)).count("applied") == 1


async def test_in_a_race_of_epochs_nothing_lower_is_applied_after_a_higher_one(
    scheduler: Scheduler, record: asyncpg.Connection
) -> None:
    for _ in range(5):
        await record.execute("TRUNCATE effects, epochs, applied_runs")
        await asyncio.gather(*(scheduler.fire(f"run_{number}", number % 7) for number in range(60)))
        rows = await record.fetch("SELECT epoch FROM effects WHERE applied ORDER BY id")
        epochs = [row["epoch"] for row in rows]
        assert epochs == sorted(epochs)
        assert epochs[-1] == 6


async def test_a_run_is_forgotten_after_the_stated_time(postgres_server: PostgresServer) -> None:
    process = TargetProcess(postgres_server.url("target_forgets"), remembers_seconds=0.3)
    process.start()
    async with aiohttp.ClientSession() as session:
        caller = Scheduler(session, process.url, "job_1")
        assert (await caller.fire("run_1", 1))[1]["applied"] is True
        async with asyncio.timeout(10):
            while not (await caller.fire("run_1", 1))[1]["applied"]:  # noqa: ASYNC110  asked anew each time
                await asyncio.sleep(0.05)
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Cron-Epoch", "-1"),
        ("Cron-Epoch", "1.5"),
        ("Cron-Epoch", "nine"),
        ("Cron-Epoch", ""),
        ("Cron-Epoch", "9223372036854775808"),
        ("Cron-Epoch", "1" * 300),
        ("Cron-Epoch", "²"),
        ("Cron-Run-Id", ""),
        ("Cron-Run-Id", "a run"),
        ("Cron-Run-Id", "r" * 201),
        ("Cron-Job-Id", ""),
        ("Cron-Job-Id", "j" * 201),
        ("Cron-Scheduled-For", ""),
        ("Cron-Scheduled-For", "tomorrow"),
        ("Cron-Scheduled-For", "2026-01-01T00:00:00"),
    ],
)
async def test_a_malformed_header_is_named_and_nothing_is_done(
    scheduler: Scheduler, record: asyncpg.Connection, header: str, value: str
) -> None:
    status, body = await scheduler.fire("run_1", 1, **{header: value})
    assert (status, body["type"]) == (422, "urn:lab:invalid_header")
    assert header in body["detail"]
    assert await reasons(record) == []


async def test_a_call_without_its_job_is_refused(scheduler: Scheduler) -> None:
    status, body = await scheduler.call("POST", "/v1/effects")
    assert (status, body["type"]) == (422, "urn:lab:invalid_header")


async def test_an_unknown_target_or_method_is_a_problem(scheduler: Scheduler) -> None:
    assert (await scheduler.fire("run_1", 1, "nothing"))[1]["type"] == "urn:lab:no_such_target"
    assert (await scheduler.call("DELETE", "/v1/effects"))[0] == 405


async def test_too_large_a_body_is_refused(scheduler: Scheduler) -> None:
    headers = {"Cron-Job-Id": "job_1", "Cron-Scheduled-For": "2026-01-01T00:00:00Z"}
    status, body = await scheduler.call("POST", "/v1/effects", headers=headers, data=b"x" * 70_000)
    assert (status, body["type"]) == (413, "urn:lab:body_too_large")


async def test_each_check_can_be_switched_off_and_tells_whom_it_spared(scheduler: Scheduler) -> None:
    await scheduler.call("PUT", "/lab/behaviours/without_dedup", json={"seed": 7})
    await scheduler.call("PUT", "/lab/behaviours/without_fencing")
    await scheduler.fire("run_1", 5)
    assert (await scheduler.fire("run_1", 5))[1]["applied"] is True
    assert (await scheduler.fire("run_2", 4))[1]["applied"] is True
    _, listing = await scheduler.call("GET", "/lab/behaviours")
    assert {one["name"]: (one["hits"], one["references"]) for one in listing} == {
        "without_dedup": (1, ["run_1"]),
        "without_fencing": (1, ["run_2"]),
    }
    await scheduler.call("DELETE", "/lab/behaviours/without_dedup")
    assert (await scheduler.fire("run_1", 5))[1]["reason"] == "duplicate_run"


async def test_a_slow_answer_comes_after_the_effect(scheduler: Scheduler, record: asyncpg.Connection) -> None:
    await scheduler.call("PUT", "/lab/behaviours/slow_answer", json={"milliseconds": 60_000})
    call = asyncio.create_task(scheduler.fire("run_1", 1))
    async with asyncio.timeout(10):
        while await reasons(record) != ["applied"]:  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.02)
    assert not call.done()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_a_held_request_arrives_although_its_sender_has_hung_up(
    scheduler: Scheduler, record: asyncpg.Connection
) -> None:
    hold = {"target": "dedup-only", "hold_seconds": 3}
    await scheduler.call("PUT", "/lab/behaviours/holds_request", json=hold)
    call = asyncio.create_task(scheduler.fire("run_1", 1, "dedup-only"))
    async with asyncio.timeout(10):
        while not await hits(scheduler, "holds_request"):  # noqa: ASYNC110  another process
            await asyncio.sleep(0.02)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await scheduler.fire("run_2", 2, "dedup-only"))[1]["applied"] is True
    async with asyncio.timeout(30):
        while await reasons(record) != ["applied", "applied"]:  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.02)
    assert [row["epoch"] for row in await record.fetch("SELECT epoch FROM effects ORDER BY id")] == [2, 1]


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("nothing", b"{}", 404),
        ("slow_answer", b"{}", 422),
        ("slow_answer", b'{"milliseconds": "soon"}', 422),
        ("slow_answer", b'{"milliseconds": 1e9}', 422),
        ("holds_request", b'{"target": "nowhere", "hold_seconds": 1}', 422),
        ("holds_request", b'{"target": "both", "hold_seconds": 1, "calls": 0}', 422),
        ("without_dedup", b'{"share": 1}', 422),
        ("without_dedup", b"{", 400),
    ],
)
async def test_a_wrong_switch_is_a_problem(scheduler: Scheduler, name: str, body: bytes, status: int) -> None:
    assert (await scheduler.call("PUT", f"/lab/behaviours/{name}", data=body))[0] == status


async def test_outside_the_lab_profile_there_are_no_switches(postgres_server: PostgresServer) -> None:
    process = TargetProcess(postgres_server.url("target_plain"), lab=False)
    process.start()
    async with aiohttp.ClientSession() as session:
        caller = Scheduler(session, process.url, "job_1")
        assert (await caller.call("PUT", "/lab/behaviours/without_dedup"))[0] == 404
        assert (await caller.call("PUT", "/lab/clock", json={"offset_seconds": 1}))[0] == 404
        assert (await caller.fire("run_1", 1))[0] == 200
    assert process.stop() == 0
