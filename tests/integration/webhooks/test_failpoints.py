"""Kill each process at every failpoint and start it again: every event and endpoint is delivered, waiting or dead, never neither."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from services.contracts import topics
from services.kit import kafka
from services.webhooks import failpoints
from tests.integration.webhooks.stack import PATIENT, Answer, Process, Receivers, Stack, until
from tests.integration.webhooks.test_source import captured, send
from tests.records import everything

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EVENTS = 6


async def publish_until_accepted(stack: Stack, event_id: str) -> Answer:
    """As a client does: the same message until it is taken."""

    async def attempt() -> Answer | None:
        try:
            answer = await stack.publish(event_id)
        except aiohttp.ClientError:
            return None
        return None if answer.status == 503 else answer

    return await until(attempt, what=f"an answer for {event_id}")


async def restarted(stack: Stack, process: Process) -> None:
    await until(lambda: stack.died(process), what=f"the death of {process.role}")
    assert process.popen.returncode == -9
    await stack.start(process.role)


async def assert_all_delivered(stack: Stack, receivers: Receivers, events: set[str], paths: set[str]) -> None:
    await until(stack.settled, what="delivery")
    pairs = {(each.json["id"], each.path) for each in receivers.received}
    assert pairs == {(event, path) for event in events for path in paths}
    assert await stack.states() == {"delivered": len(pairs)}


@pytest.mark.parametrize("point", failpoints.API)
async def test_the_api_killed_at_any_point_loses_nothing_it_answered_for(
    stack: Stack, receivers: Receivers, point: str
) -> None:
    stack.extra |= PATIENT
    api, _ = await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    await stack.endpoint(receivers.url("/a"))
    await stack.endpoint(receivers.url("/b"))
    await stack.arm(api, point)

    publishing = asyncio.create_task(publish_until_accepted(stack, "evt-1"))
    await restarted(stack, api)
    first = await publishing

    assert first.status == 202
    assert (await stack.publish("evt-1")).json == first.json
    await assert_all_delivered(stack, receivers, {"evt-1"}, {"/a", "/b"})
    assert len(receivers.received) == 2


@pytest.mark.parametrize("point", failpoints.DISPATCHER)
async def test_the_dispatcher_killed_at_any_point_delivers_all_and_repeats_no_more_than_was_in_flight(
    stack: Stack, receivers: Receivers, point: str
) -> None:
    await stack.start("api")
    for path in ("/a", "/b"):
        await stack.endpoint(receivers.url(path))
    events = {f"evt-{number}" for number in range(EVENTS)}
    for event in events:
        assert (await stack.publish(event)).status == 202

    dispatcher = await stack.start("dispatcher", failpoints=f"{point}=kill@2")
    await restarted(stack, dispatcher)

    await assert_all_delivered(stack, receivers, events, {"/a", "/b"})
    interrupted = await stack.sql("SELECT 1 FROM attempts WHERE outcome = 'interrupted'")
    # Not of those alone: an attempt that timed out on a slow machine has arrived too.
    repeated = await stack.sql("SELECT 1 FROM attempts WHERE outcome <> 'delivered'")
    assert len(receivers.received) <= 2 * EVENTS + len(repeated)
    if point in (failpoints.BEFORE_ATTEMPT, failpoints.AFTER_RESPONSE):
        assert interrupted
    gaps = await stack.sql(
        "SELECT delivery_id FROM attempts GROUP BY delivery_id HAVING count(*) <> max(number) OR min(number) <> 1"
    )
    assert gaps == []


@pytest.mark.parametrize("point", failpoints.SOURCE)
async def test_the_source_killed_at_any_point_takes_each_event_once(
    kafka_stack: Stack, receivers: Receivers, point: str
) -> None:
    stack = kafka_stack
    await stack.start("api")
    await stack.endpoint(receivers.url("/a"))
    source = await stack.start("source", failpoints=f"{point}=kill@1")
    events = [captured(f"evt-{number}") for number in range(EVENTS)]
    await send(stack, events)

    await restarted(stack, source)
    await stack.start("dispatcher")

    async def all_there() -> bool:
        return bool((await stack.sql("SELECT count(*) AS n FROM messages"))[0]["n"] == EVENTS)

    await until(all_there, what="all messages")
    await assert_all_delivered(stack, receivers, {event.id for event in events}, {"/a"})


@pytest.mark.parametrize("point", [failpoints.REPLAY_BEFORE_COMMIT, failpoints.REPLAY_AFTER_COMMIT])
async def test_a_replay_goes_on_after_its_keeper_was_killed_and_replays_each_once(
    stack: Stack, receivers: Receivers, point: str
) -> None:
    stack.extra |= PATIENT
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    receivers.answers("/a", 500)
    await stack.endpoint(receivers.url("/a"))
    for number in range(EVENTS):
        await stack.publish(f"evt-{number}")
    await until(stack.settled, what="dead letters")
    assert await stack.states() == {"dead": EVENTS}
    receivers.answers("/a", 204)
    receivers.received.clear()

    keeper = await stack.start("keeper", failpoints=f"{point}=kill@2")
    asked = await stack.request(
        "POST", "/v1/replays", json={"rate_per_second": 4}, headers={"Idempotency-Key": "replay-1"}
    )
    assert (asked.status, asked.json["matched"]) == (202, EVENTS)
    await restarted(stack, keeper)

    async def done() -> bool:
        answer = await stack.request("GET", f"/v1/replays/{asked.json['id']}")
        return bool(answer.json["state"] == "done")

    await until(done, what="the end of the replay")
    await until(stack.settled, what="delivery")
    assert (await stack.request("GET", f"/v1/replays/{asked.json['id']}")).json["replayed"] == EVENTS
    assert sorted(each.json["id"] for each in receivers.received) == [f"evt-{number}" for number in range(EVENTS)]


@pytest.mark.parametrize("point", [failpoints.RELAY_BEFORE_PUBLISH, failpoints.RELAY_AFTER_PUBLISH])
async def test_the_keeper_killed_while_publishing_loses_no_event(
    kafka_stack: Stack, receivers: Receivers, point: str
) -> None:
    stack = kafka_stack
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    receivers.answers("/gone", 410)
    endpoint = await stack.endpoint(receivers.url("/gone"))
    await stack.publish("evt-1")
    await until(stack.settled, what="the end of the endpoint")

    keeper = await stack.start("keeper", failpoints=f"{point}=kill@1")
    await restarted(stack, keeper)

    async def published() -> bool:
        return not await stack.sql("SELECT 1 FROM outbox")

    await until(published, what="an empty outbox")
    events = await operational_events(stack)
    assert {kind for kind, _ in events} == {"webhooks.endpoint.disabled"}
    assert len({identity for _, identity in events}) == 1
    assert (await stack.request("GET", f"/v1/endpoints/{endpoint['id']}")).json["disabled_reason"] == "gone"


async def operational_events(stack: Stack) -> list[tuple[str, str]]:
    """Type and id of all events on the topic."""
    topic = topics.WEBHOOKS_OPERATIONAL
    return [
        (kafka.header(each.headers, "ce_type") or "", kafka.header(each.headers, "ce_id") or "")
        for each in await everything(stack.bootstrap, stack.prefix + topic.name, partitions=topic.partitions)
    ]


async def test_the_sweep_killed_between_batches_goes_on(stack: Stack, receivers: Receivers) -> None:
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    await stack.endpoint(receivers.url("/a"))
    for number in range(EVENTS):
        await stack.publish(f"evt-{number}")
    await until(stack.settled, what="delivery")

    keeper = await stack.start(
        "keeper",
        failpoints=f"{failpoints.SWEEP_AFTER_COMMIT}=kill@1",
        environment={"WEBHOOKS_RETENTION_DAYS": "0.0000001"},
    )
    await restarted(stack, keeper)
    left = await stack.sql(
        "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM attempts) AS n"
    )
    assert left[0]["n"] == 0


def test_every_failpoint_is_walked() -> None:
    walked = {
        *failpoints.API,
        *failpoints.DISPATCHER,
        *failpoints.SOURCE,
        failpoints.REPLAY_BEFORE_COMMIT,
        failpoints.REPLAY_AFTER_COMMIT,
        failpoints.RELAY_BEFORE_PUBLISH,
        failpoints.RELAY_AFTER_PUBLISH,
        failpoints.SWEEP_AFTER_COMMIT,
    }
    assert walked == set(failpoints.ALL)
