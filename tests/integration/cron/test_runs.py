"""What becomes of instants: outages, overlaps, failing targets, changes of jobs, wrong clocks, Kafka, Redis."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from services.contracts import topics
from services.cron.app import sweep
from services.cron.store.jobs import JobStore
from services.kit import postgres
from tests import records
from tests.integration.cron.stack import Stack, client, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NEVER = {"cron": "0 0 1 1 *", "zone": "UTC"}
MINUTELY = {"cron": "* * * * *", "zone": "UTC"}


async def one_of_each(stack: Stack) -> None:
    # Its only scheduler is not to lose the lease: a run under way would be fired again, under the next epoch.
    stack.extra["CRON_LEASE_SECONDS"] = "10"
    await asyncio.gather(stack.start("api"), stack.start("node-1"))


async def outage(stack: Stack, hours: float) -> None:
    """As if nobody had looked at any job for so long."""
    await stack.sql(
        "UPDATE jobs SET next_at = date_trunc('minute', next_at) - make_interval(secs => $1), turn = turn + 1",
        hours * 3600,
    )


async def quiet(stack: Stack) -> bool:
    """Nothing is due, waits or is fired."""
    rows = await stack.sql(
        "SELECT 1 FROM jobs WHERE next_at <= now() UNION ALL SELECT 1 FROM runs WHERE state IN ('waiting', 'firing')"
    )
    return not rows


async def run_now(stack: Stack, job: str, key: str = "now") -> dict[str, Any]:
    answer = await stack.request("POST", f"/v1/jobs/{job}/run", headers={"Idempotency-Key": key})
    assert answer.status == 202, answer.body
    run: dict[str, Any] = answer.json
    return run


async def ended(stack: Stack, run: str) -> dict[str, Any]:
    """The run once it is over."""

    async def found() -> dict[str, Any] | None:
        for job in (await stack.request("GET", "/v1/jobs?limit=100")).json["data"]:
            for each in (await stack.request("GET", f"/v1/jobs/{job['id']}/runs?limit=100")).json["data"]:
                if each["id"] == run and each["state"] not in ("waiting", "firing"):
                    one: dict[str, Any] = each
                    return one
        return None

    return await until(found, what="the end of the run")


async def test_after_a_day_of_outage_each_minute_is_accounted_as_the_policy_says(stack: Stack) -> None:
    await stack.start("api")
    policies: dict[str, dict[str, Any]] = {
        "skip": {"policy": "skip"},
        "once": {"policy": "once"},
        "all": {"policy": "all", "cap": 50},
        "deadline": {"policy": "all", "cap": 1000, "deadline_seconds": 600},
    }
    for name, misfire in policies.items():
        await stack.create(name, schedule=MINUTELY, misfire=misfire)
    await outage(stack, 24)
    await stack.start("node-1")
    await until(lambda: quiet(stack), what="all accounted", within=60)
    rows = await stack.sql(
        "SELECT j.name, r.state, count(*)::int AS n FROM runs r JOIN jobs j ON j.id = r.job_id"
        " WHERE r.scheduled_for < now() - interval '1 minute' GROUP BY 1, 2"
    )
    found: dict[str, dict[str, int]] = {name: {} for name in policies}
    for row in rows:
        found[row["name"]][row["state"]] = row["n"]
    for states in found.values():
        assert sum(states.values()) in (1439, 1440, 1441)
    assert set(found["skip"]) == {"skipped"}
    # The newest missed instant may be younger than a minute and is then not counted here.
    assert found["once"].get("late", 0) <= 1
    assert set(found["once"]) <= {"coalesced", "late"}
    assert 49 <= found["all"]["late"] <= 50
    assert 8 <= found["deadline"]["late"] <= 10
    gaps = await stack.sql(
        "SELECT 1 FROM (SELECT scheduled_for - lag(scheduled_for) OVER (PARTITION BY job_id ORDER BY scheduled_for) AS gap"
        " FROM runs) g WHERE gap <> interval '1 minute'"
    )
    assert not gaps
    done = [(call.job, call.scheduled_for) for call in stack.target.applied]
    assert len(done) == len(set(done))


async def test_a_paused_job_keeps_its_audit_and_calls_nobody(stack: Stack) -> None:
    await one_of_each(stack)
    job = await stack.create("paused", enabled=False)

    async def three() -> bool:
        return (await stack.states()).get("skipped", 0) >= 3

    await until(three, what="three skipped instants")
    found = (await stack.request("GET", f"/v1/jobs/{job}/runs?state=skipped")).json["data"]
    assert {each["reason"] for each in found} == {"paused"}
    assert stack.target.calls == []


async def test_a_job_that_is_changed_while_no_scheduler_lives_first_accounts_for_the_past(stack: Stack) -> None:
    await stack.start("api")
    job = await stack.create("minutely", schedule=MINUTELY, misfire={"policy": "skip"})
    await outage(stack, 1)
    changed = await stack.request("PATCH", f"/v1/jobs/{job}", json={"enabled": False, "schedule": NEVER})
    assert changed.status == 200
    counts = await stack.sql("SELECT reason, count(*)::int AS n FROM runs GROUP BY reason")
    found = {row["reason"]: row["n"] for row in counts}
    assert found["misfire"] in (59, 60, 61)
    assert "paused" not in found, "it was not paused at that time"


async def test_a_job_that_is_deleted_leaves_no_instant_without_a_row_and_its_waiting_runs_are_skipped(
    stack: Stack,
) -> None:
    await stack.start("api")
    job = await stack.create("minutely", schedule=MINUTELY, misfire={"policy": "all", "cap": 1000})
    await outage(stack, 1)
    assert (await stack.request("DELETE", f"/v1/jobs/{job}")).status == 204
    rows = await stack.sql("SELECT state, reason, count(*)::int AS n FROM runs GROUP BY state, reason")
    ((state, reason, count),) = [tuple(row) for row in rows]
    assert (state, reason) == ("skipped", "deleted")
    assert count in (60, 61)


async def test_a_job_that_is_deleted_while_its_target_fails_is_not_called_again(stack: Stack) -> None:
    await one_of_each(stack)
    stack.target.status = [503] * 20
    stack.target.hold = 1.0
    job = await stack.create("failing", schedule=NEVER, retries=5)
    await run_now(stack, job)

    async def called() -> bool:
        return bool(stack.target.calls)

    await until(called, what="the first call")
    assert (await stack.request("DELETE", f"/v1/jobs/{job}")).status == 204

    async def finished() -> bool:
        return not await stack.sql("SELECT 1 FROM runs WHERE state = 'firing'")

    await until(finished, what="the end of the first call")
    rows = await stack.sql("SELECT state, reason FROM runs")
    assert [tuple(row) for row in rows] == [("failed", "target_error")]
    assert len(stack.target.calls) == 1


async def test_a_job_that_forbids_overlap_skips_instants_while_a_run_is_open(stack: Stack) -> None:
    await one_of_each(stack)
    stack.target.hold = 2.5
    await stack.create("slow", concurrency="forbid")

    async def both() -> bool:
        return (await stack.states()).get("fired", 0) >= 2

    await until(both, what="two fired runs")
    rows = await stack.sql("SELECT reason, count(*)::int AS n FROM runs WHERE state = 'skipped' GROUP BY reason")
    assert [row["reason"] for row in rows] == ["overlap"]
    overlapping = await stack.sql(
        "SELECT 1 FROM runs a JOIN runs b ON a.id < b.id AND a.fired_at < b.finished_at AND b.fired_at < a.finished_at"
        " WHERE a.state = 'fired' AND b.state = 'fired'"
    )
    assert not overlapping


async def test_a_job_that_replaces_gives_up_the_run_that_is_open(stack: Stack) -> None:
    await one_of_each(stack)
    stack.target.hold = 30
    await stack.create("slow", concurrency="replace")

    async def replaced() -> bool:
        rows = await stack.sql("SELECT 1 FROM runs WHERE state = 'failed' AND reason = 'replaced'")
        return len(rows) >= 2

    await until(replaced, what="two replaced runs")
    (row,) = await stack.sql("SELECT max(n)::int AS n FROM (SELECT count(*) AS n FROM runs WHERE state = 'firing') x")
    assert row["n"] <= 1


async def test_a_failing_target_is_called_again_with_the_same_run_id(stack: Stack) -> None:
    await one_of_each(stack)
    stack.target.status = [503, 429]
    job = await stack.create("flaky", schedule=NEVER, retries=2)
    run = await run_now(stack, job)
    found = await ended(stack, run["id"])
    assert (found["state"], found["attempts"], found["status"], found["kind"]) == ("fired", 3, 200, "manual")
    assert {call.run for call in stack.target.calls} == {run["id"]}
    assert len(stack.target.calls) == 3


@pytest.mark.parametrize(
    ("status", "retries", "reason", "attempts"),
    [(500, 1, "target_error", 2), (404, 5, "refused", 1), (302, 5, "redirected", 1)],
)
async def test_a_run_fails_when_tries_are_used_up_or_useless(
    stack: Stack, status: int, retries: int, reason: str, attempts: int
) -> None:
    await one_of_each(stack)
    stack.target.status = [status] * 20
    stack.target.location = stack.target.url
    run = await run_now(stack, await stack.create("failing", schedule=NEVER, retries=retries))
    found = await ended(stack, run["id"])
    assert (found["state"], found["reason"], found["attempts"], found["status"]) == ("failed", reason, attempts, status)
    assert len(stack.target.calls) == attempts


async def test_a_target_that_hangs_or_is_not_there_is_given_up(stack: Stack) -> None:
    await one_of_each(stack)
    stack.target.hold = 30
    hanging = await run_now(stack, await stack.create("hanging", schedule=NEVER, timeout_seconds=1))
    closed = {"http": {"url": "http://127.0.0.1:1024/"}}
    missing = await run_now(stack, await stack.create("missing", schedule=NEVER, target=closed))
    assert (await ended(stack, hanging["id"]))["reason"] == "timeout"
    assert (await ended(stack, missing["id"]))["reason"] == "connection"


async def test_a_name_that_leads_to_loopback_is_not_called_without_leave(stack: Stack) -> None:
    await stack.start("api")
    await stack.start("node-1", environment={"CRON_ALLOW_LOOPBACK": "0"})
    run = await run_now(stack, await stack.create("inward", schedule=NEVER))
    assert (await ended(stack, run["id"]))["reason"] == "forbidden_address"
    assert stack.target.calls == []


async def test_a_leader_whose_clock_is_an_hour_ahead_fires_nothing_early(stack: Stack) -> None:
    _, node = await asyncio.gather(stack.start("api"), stack.start("node-1"))
    async with client() as session, session.put(f"{node.url}/lab/clock", json={"offset_seconds": 3600}) as response:
        assert response.status in (200, 204)
    await stack.create("each-second")
    await stack.create("hourly", schedule={"cron": "0 * * * *", "zone": "UTC"})

    async def three() -> bool:
        return len(stack.target.applied) >= 3

    await until(three, what="three effects")
    early = await stack.sql("SELECT 1 FROM runs WHERE fired_at < due_at OR scheduled_for > now()")
    assert not early
    async with client() as session, session.get(f"{node.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    (offset,) = [float(line.split()[1]) for line in lines if line.startswith("cron_clock_offset_seconds ")]
    assert 3590 < offset < 3610


async def test_connections_that_the_database_ends_cost_a_term_and_no_instant(stack: Stack) -> None:
    await one_of_each(stack)
    await stack.create("each-second")

    async def some(count: int) -> bool:
        return len(stack.target.applied) >= count

    await until(lambda: some(1), what="an effect")
    await stack.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cron-%' AND datname = $1",
        stack.database,
    )
    await until(lambda: some(4), what="more effects")
    assert stack.target.highest > 1
    rows = await stack.sql("SELECT scheduled_for - lag(scheduled_for) OVER (ORDER BY scheduled_for) AS gap FROM runs")
    assert {row["gap"] for row in rows if row["gap"]} == {timedelta(seconds=1)}


async def test_an_instant_is_put_off_by_its_jitter_and_not_late(stack: Stack) -> None:
    await one_of_each(stack)
    await stack.create("jittered", jitter_seconds=2)

    async def three() -> bool:
        return (await stack.states()).get("fired", 0) >= 3

    await until(three, what="three fired runs")
    rows = await stack.sql("SELECT scheduled_for, due_at, fired_at FROM runs WHERE state = 'fired'")
    assert all(timedelta() <= row["due_at"] - row["scheduled_for"] <= timedelta(seconds=2) for row in rows)
    assert all(row["fired_at"] >= row["due_at"] for row in rows)
    assert len({row["due_at"] - row["scheduled_for"] for row in rows}) > 1


async def test_a_kafka_target_gets_the_body_with_run_id_and_epoch_in_the_headers(kafka_stack: Stack) -> None:
    stack = kafka_stack
    await topics.create(stack.bootstrap, stack.prefix)
    await one_of_each(stack)
    target = {"kafka": {"topic": "cron.run.v1", "key": "k", "body": {"a": 1}}}
    job = await stack.create("to-kafka", schedule=NEVER, target=target)
    run = await run_now(stack, job)
    missing = await stack.create(
        "nowhere", schedule=NEVER, target={"kafka": {"topic": "cron.nowhere"}}, timeout_seconds=20
    )
    lost = await run_now(stack, missing)
    (message,) = await records.some(stack.bootstrap, stack.prefix + "cron.run.v1")
    heads = {name: value.decode() for name, value in message.headers}
    assert (message.key, message.value) == (b"k", b'{"a":1}')
    assert (heads["ce_id"], heads["ce_subject"], heads["ce_cronepoch"]) == (run["id"], job, "1")
    assert heads["ce_type"] == "cron.run.due"
    assert "ce_expirytime" not in heads  # a manual run is wanted whenever it comes
    assert datetime.fromisoformat(heads["ce_cronscheduledfor"]) == datetime.fromisoformat(run["scheduled_for"])
    assert (await ended(stack, run["id"]))["state"] == "fired"
    assert (await ended(stack, lost["id"]))["reason"] == "no_such_topic"


async def test_a_kafka_message_carries_its_misfire_deadline_as_expiry(kafka_stack: Stack) -> None:
    stack = kafka_stack
    await topics.create(stack.bootstrap, stack.prefix)
    await one_of_each(stack)
    target = {"kafka": {"topic": "cron.run.v1"}}
    await stack.create("each-second", target=target, misfire={"policy": "once", "deadline_seconds": 600})
    (message,) = await records.some(stack.bootstrap, stack.prefix + "cron.run.v1")
    heads = {name: value.decode() for name, value in message.headers}
    expiry = datetime.fromisoformat(heads["ce_expirytime"])
    assert expiry - datetime.fromisoformat(heads["ce_cronscheduledfor"]) == timedelta(seconds=600)


async def test_with_the_lease_in_redis_a_killed_leader_is_followed(redis_stack: Stack) -> None:
    stack = redis_stack
    _, first, second = await asyncio.gather(stack.start("api"), stack.start("node-1"), stack.start("node-2"))
    await stack.create("each-second")

    async def effect_of(epoch: int) -> bool:
        return stack.target.highest >= epoch

    await until(lambda: effect_of(1), what="an effect")
    ((leader,),) = [tuple(row) for row in await stack.sql("SELECT node FROM leases")]
    {"node-1": first, "node-2": second}[leader].kill()
    await until(lambda: effect_of(2), what="an effect of the next epoch")


async def test_finished_runs_are_forgotten_after_the_retention_and_open_ones_are_not(stack: Stack) -> None:
    await stack.start("api")
    job = await stack.create("minutely", schedule=MINUTELY, misfire={"policy": "skip"})
    await outage(stack, 1)
    await stack.request("PATCH", f"/v1/jobs/{job}", json={"schedule": NEVER})
    await run_now(stack, job)
    # The manual run, and in the first seconds of a minute that minute's own, which is no misfire yet.
    waiting = (await stack.states())["waiting"]
    async with await postgres.create_pool(stack.app_url, name="sweep", maximum=2) as pool:
        store = JobStore(pool)
        assert await sweep(store, timedelta(days=1)) == 0
        await stack.sql(
            "INSERT INTO idempotency_keys SELECT 'ten', 'k' || n, '', gen_random_uuid(), '', now() - interval '1 s' * (n % 2)"
            " + interval '1 h' * ((n + 1) % 2) FROM generate_series(1, 10) n"
        )
        await asyncio.sleep(0)
        swept = await sweep(store, timedelta(seconds=-60))
    assert swept >= 59
    assert len(await stack.sql("SELECT 1 FROM idempotency_keys")) == 5
    assert waiting >= 1
    assert await stack.states() == {"waiting": waiting}


async def test_the_database_refuses_a_second_row_for_an_instant_and_a_change_of_a_finished_one(stack: Stack) -> None:
    await stack.start("api")
    await stack.create("minutely", schedule=MINUTELY)
    insert = (
        "INSERT INTO runs (id, job_id, scheduled_for, due_at, attempt_at, state, exclusive, finished_at)"
        " SELECT gen_random_uuid(), id, $1, $1, $1, 'skipped', false, now() FROM jobs"
    )
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    await stack.sql(insert, instant)
    with pytest.raises(asyncpg.UniqueViolationError):
        await stack.sql(insert, instant)
    with pytest.raises(asyncpg.CheckViolationError):
        await stack.sql("UPDATE runs SET state = 'fired'")
