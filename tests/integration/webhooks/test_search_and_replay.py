"""Finding messages again, and sending them again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.integration.webhooks.stack import PATIENT, Receivers, Stack, until

pytestmark = pytest.mark.integration


async def found(stack: Stack, query: str) -> list[str]:
    """Event ids of all pages."""
    events: list[str] = []
    cursor = ""
    while True:
        page = (await stack.request("GET", f"/v1/messages?limit=2&{query}{cursor}")).json
        events += [each["event_id"] for each in page["data"]]
        if page["next_cursor"] is None:
            return events
        cursor = f"&cursor={page['next_cursor']}"


async def test_messages_are_found_by_type_endpoint_state_and_time(stack: Stack, receivers: Receivers) -> None:
    receivers.answers("/bad", 500)
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    good = await stack.endpoint(receivers.url("/good"), event_types=["a.good", "a.both"])
    bad = await stack.endpoint(receivers.url("/bad"), event_types=["a.bad", "a.both"])
    kinds = ["a.good", "a.bad", "a.both", "a.nobody"]
    for number, kind in enumerate([*kinds, *kinds]):
        await stack.publish(f"e{number}", kind)
        if number == 3:
            middle = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await until(stack.settled, what="the end")

    assert await found(stack, "") == ["e7", "e6", "e5", "e4", "e3", "e2", "e1", "e0"]
    assert await found(stack, "event_type=a.bad") == ["e5", "e1"]
    assert await found(stack, f"endpoint={good['id']}") == ["e6", "e4", "e2", "e0"]
    assert await found(stack, f"endpoint={bad['id']}&state=dead") == ["e6", "e5", "e2", "e1"]
    assert await found(stack, f"endpoint={bad['id']}&state=delivered") == []
    assert await found(stack, "state=dead") == ["e6", "e5", "e2", "e1"]
    assert await found(stack, "state=delivered&event_type=a.both") == ["e6", "e2"]
    assert await found(stack, "state=scheduled") == []
    assert await found(stack, f"after={middle}") == ["e7", "e6", "e5", "e4"]
    assert await found(stack, f"before={middle}&state=dead") == ["e2", "e1"]


async def test_a_dry_run_counts_and_changes_nothing_and_one_key_is_one_replay(
    stack: Stack, receivers: Receivers
) -> None:
    stack.extra |= PATIENT
    receivers.answers("/bad", 500)
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"), stack.start("keeper"))
    bad = await stack.endpoint(receivers.url("/bad"))
    await stack.endpoint(receivers.url("/good"))
    for number in range(3):
        await stack.publish(f"e{number}")
    await until(stack.settled, what="the end")

    dry = await stack.request("POST", "/v1/replays", json={"dry_run": True, "states": ["dead", "delivered"]})
    assert (dry.status, dry.json["id"], dry.json["matched"]) == (202, None, 6)
    dry = await stack.request("POST", "/v1/replays", json={"dry_run": True, "endpoint": bad["id"]})
    assert dry.json["matched"] == 3
    assert await stack.states() == {"dead": 3, "delivered": 3}

    receivers.answers("/bad", 204)
    receivers.received.clear()
    key = {"Idempotency-Key": "k"}
    body = {"endpoint": bad["id"], "rate_per_second": 1000}
    first, second = await asyncio.gather(
        stack.request("POST", "/v1/replays", json=body, headers=key),
        stack.request("POST", "/v1/replays", json=body, headers=key),
    )
    assert first.json["id"] == second.json["id"]
    other = await stack.request("POST", "/v1/replays", json={"endpoint": bad["id"]}, headers=key)
    assert (other.status, other.json["type"]) == (422, "urn:lab:idempotency_key_reused")

    async def delivered() -> bool:
        return await stack.states() == {"delivered": 6}

    await until(delivered, what="the replay")
    assert sorted(each.json["id"] for each in receivers.received) == ["e0", "e1", "e2"]


async def test_a_message_is_replayed_alone_and_a_disabled_endpoint_not_at_all(
    stack: Stack, receivers: Receivers
) -> None:
    stack.extra |= PATIENT
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"), stack.start("keeper"))
    endpoint = await stack.endpoint(receivers.url("/a"))
    first = (await stack.publish("e0")).json
    await stack.publish("e1")
    await until(stack.settled, what="delivery")
    receivers.received.clear()

    body = {"message": first["id"], "states": ["delivered"]}
    asked = await stack.request("POST", "/v1/replays", json=body, headers={"Idempotency-Key": "one"})
    assert asked.json["matched"] == 1

    async def again() -> bool:
        return len(receivers.received) == 1

    await until(again, what="the replayed one")
    await until(stack.settled, what="its end")
    assert [each.json["id"] for each in receivers.received] == ["e0"]

    await stack.request("PATCH", f"/v1/endpoints/{endpoint['id']}", json={"enabled": False})
    body = {"endpoint": endpoint["id"]}
    refused = await stack.request("POST", "/v1/replays", json=body, headers={"Idempotency-Key": "two"})
    assert (refused.status, refused.json["type"]) == (409, "urn:lab:endpoint_disabled")
    path = f"/v1/messages/{first['id']}/resend"
    assert (await stack.request("POST", path, json=body)).json["type"] == "urn:lab:endpoint_disabled"


async def test_a_replay_keeps_to_its_rate(stack: Stack, receivers: Receivers) -> None:
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"), stack.start("keeper"))
    await stack.endpoint(receivers.url("/a"))
    for number in range(12):
        await stack.publish(f"e{number}")
    await until(stack.settled, what="delivery")
    body = {"states": ["delivered"], "rate_per_second": 4}
    asked = await stack.request("POST", "/v1/replays", json=body, headers={"Idempotency-Key": "slow"})

    async def done() -> bool:
        answer = await stack.request("GET", f"/v1/replays/{asked.json['id']}")
        return bool(answer.json["state"] == "done")

    await until(done, what="the end of the replay")
    (row,) = await stack.sql("SELECT extract(epoch FROM finished_at - created_at) AS s FROM replays")
    # Twelve at four a second with a burst of two: never sooner than this, however fast the machine is.
    assert row["s"] >= 2.4


async def test_endpoints_are_listed_page_by_page_and_types_too(stack: Stack) -> None:
    await stack.start("api")
    made = [await stack.endpoint(f"http://127.0.0.1:9000/{number}") for number in range(5)]
    listed: list[str] = []
    cursor = ""
    while True:
        page = (await stack.request("GET", f"/v1/endpoints?limit=2{cursor}")).json
        listed += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert listed == [each["id"] for each in made]
    for name in ("b.two", "a.one", "c.three"):
        assert (await stack.request("PUT", f"/v1/event-types/{name}", json={})).status == 200
    first = (await stack.request("GET", "/v1/event-types?limit=2")).json
    assert ([each["name"] for each in first["data"]], first["next_cursor"]) == (["a.one", "b.two"], "b.two")
