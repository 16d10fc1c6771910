"""Events reach the endpoints that want them, as the schedule and the answers say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from services.webhooks.signing import parse_verifying_key, verify
from tests.integration.webhooks.stack import PATIENT, Receivers, Stack, until

pytestmark = pytest.mark.integration


async def test_an_event_reaches_each_endpoint_that_wants_it_and_no_other(stack: Stack, receivers: Receivers) -> None:
    stack.extra |= PATIENT
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    await stack.endpoint(receivers.url("/all"))
    wanting = await stack.endpoint(receivers.url("/paid"), event_types=["order.paid", "order.sent"])
    await stack.endpoint(receivers.url("/other"), event_types=["order.lost"])

    taken = await stack.publish("evt-1", amount=5)

    await until(stack.settled, what="delivery")
    assert taken.status == 202
    assert sorted(each.path for each in receivers.received) == ["/all", "/paid"]
    (request,) = receivers.at("/paid")
    assert request.json == {
        "type": "order.paid",
        "timestamp": request.json["timestamp"],
        "id": "evt-1",
        "data": {"amount": 5},
    }
    assert request.headers["webhook-id"] == taken.json["id"]
    now = datetime.now(UTC).timestamp()
    assert verify(request.headers, request.body, [parse_verifying_key(wanting["secret"])], now=now)
    assert await stack.states() == {"delivered": 2}


async def test_failures_follow_the_schedule_and_end_in_the_dead_letters_with_their_reason(
    stack: Stack, receivers: Receivers
) -> None:
    stack.extra |= PATIENT
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    receivers.answers("/r", 500)
    await stack.endpoint(receivers.url("/r"))
    taken = await stack.publish("evt-1")

    await until(stack.settled, what="the end of the schedule")

    (delivery,) = await stack.sql("SELECT * FROM deliveries")
    assert (delivery["state"], delivery["dead_reason"], delivery["attempts"]) == ("dead", "exhausted", 4)
    log = (await stack.request("GET", f"/v1/messages/{taken.json['id']}/attempts")).json["data"]
    assert [each["number"] for each in log] == [4, 3, 2, 1]
    assert {(each["outcome"], each["status"]) for each in log} == {("refused", 500)}
    bodies = {each.body for each in receivers.received}
    assert len(receivers.received) == 4
    assert len(bodies) == 1
    assert len({each.headers["webhook-id"] for each in receivers.received}) == 1


async def test_a_success_is_the_status_line_whatever_the_body_does(stack: Stack, receivers: Receivers) -> None:
    stack.extra |= PATIENT

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 2500)
            await asyncio.sleep(0.01)

    async def resets(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers={"Content-Length": "1000"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return response

    receivers.behaviours |= {"/endless": endless, "/resets": resets}
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    for path in ("/endless", "/resets"):
        await stack.endpoint(receivers.url(path))
    await stack.publish("evt-1")

    await until(stack.settled, what="delivery")

    assert await stack.states() == {"delivered": 2}
    assert len(receivers.received) == 2
    rows = await stack.sql("SELECT length(response_body) AS n FROM attempts ORDER BY n")
    assert [row["n"] for row in rows] == [0, 4096]


async def test_a_redirect_is_not_followed_and_410_switches_the_endpoint_off_for_good(
    stack: Stack, receivers: Receivers
) -> None:
    stack.extra |= PATIENT
    receivers.answers("/moved", 302, {"Location": receivers.url("/elsewhere")})
    receivers.answers("/gone", 410)
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    await stack.endpoint(receivers.url("/moved"), event_types=["a.moved"])
    gone = await stack.endpoint(receivers.url("/gone"), event_types=["a.gone"])
    await stack.publish("evt-1", "a.moved")
    await stack.publish("evt-2", "a.gone")
    await until(stack.settled, what="the end")

    assert receivers.at("/elsewhere") == []
    assert len(receivers.at("/moved")) == 4
    assert len(receivers.at("/gone")) == 1
    view = (await stack.request("GET", f"/v1/endpoints/{gone['id']}")).json
    assert (view["enabled"], view["disabled_reason"]) == (False, "gone")

    later = await stack.publish("evt-3", "a.gone")
    message = (await stack.request("GET", f"/v1/messages/{later.json['id']}")).json
    assert [(each["state"], each["dead_reason"]) for each in message["deliveries"]] == [("dead", "endpoint_disabled")]


async def test_an_endpoint_that_only_fails_is_disabled_and_its_owner_and_its_other_endpoints_are_told(
    stack: Stack, receivers: Receivers
) -> None:
    stack.extra |= {"WEBHOOKS_DISABLE_AFTER_SECONDS": "0.5", "WEBHOOKS_SCHEDULE": "0,0.3,0.3,0.3,0.3,0.3"}
    receivers.answers("/bad", 500)
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    bad = await stack.endpoint(receivers.url("/bad"), event_types=["order.paid"])
    await stack.endpoint(receivers.url("/ops"), event_types=["webhooks.endpoint.disabled"])
    await stack.endpoint(receivers.url("/all"))
    await stack.publish("evt-1")
    await stack.publish("evt-2")

    async def told() -> bool:
        return bool(receivers.at("/ops"))

    await until(told, what="the operational event")
    await until(stack.settled, what="the end")
    (event,) = receivers.at("/ops")
    assert event.json["type"] == "webhooks.endpoint.disabled"
    assert event.json["data"]["endpoint_id"] == bad["id"]
    assert event.json["data"]["reason"] == "failing"
    assert {each.json["type"] for each in receivers.at("/all")} == {"order.paid"}
    rows = await stack.sql("SELECT dead_reason FROM deliveries WHERE state = 'dead'")
    assert {row["dead_reason"] for row in rows} <= {"endpoint_disabled", "exhausted"}
    assert [row["type"] for row in await stack.sql("SELECT type FROM outbox")] == ["webhooks.endpoint.disabled"]


async def test_exhausted_and_recovered_are_told_and_operational_failures_make_no_more_events(
    stack: Stack, receivers: Receivers
) -> None:
    stack.extra |= PATIENT
    receivers.answers("/bad", 500)
    receivers.answers("/ops", 500)
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    bad = await stack.endpoint(receivers.url("/bad"), event_types=["order.paid"])
    kinds = ["webhooks.message.attempt.exhausted", "webhooks.message.attempt.recovered"]
    await stack.endpoint(receivers.url("/ops"), event_types=kinds)
    taken = await stack.publish("evt-1")
    await until(stack.settled, what="the end of all schedules")
    assert [row["type"] for row in await stack.sql("SELECT type FROM outbox")] == [kinds[0]]
    assert len(receivers.at("/ops")) == 4

    receivers.answers("/bad", 204)
    path = f"/v1/messages/{taken.json['id']}/resend"
    resent = await stack.request("POST", path, json={"endpoint": bad["id"]})
    assert resent.status == 202
    await until(stack.settled, what="the resent one")
    assert [row["type"] for row in await stack.sql("SELECT type FROM outbox ORDER BY id")] == kinds


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_holds_back_the_whole_endpoint(stack: Stack, receivers: Receivers, form: str) -> None:
    stack.extra |= PATIENT
    at = datetime.now(UTC) + timedelta(seconds=120)  # the processes have yet to start
    receivers.answers("/busy", 429, {"Retry-After": "30" if form == "seconds" else format_datetime(at, usegmt=True)})
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    await stack.endpoint(receivers.url("/busy"))
    await stack.endpoint(receivers.url("/free"))
    await stack.publish("evt-1")

    async def refused() -> bool:
        return bool(await stack.sql("SELECT 1 FROM attempts WHERE status = 429"))

    await until(refused, what="the first attempt")
    await stack.publish("evt-2")

    async def free_has_both() -> bool:
        return len(receivers.at("/free")) == 2

    await until(free_has_both, what="the other endpoint")
    assert len(receivers.at("/busy")) == 1
    (waiting,) = await stack.sql(
        "SELECT extract(epoch FROM next_attempt_at - now()) AS s FROM deliveries WHERE state = 'scheduled' AND attempts = 1"
    )
    assert waiting["s"] > 10


async def test_an_endpoint_that_hangs_holds_up_no_other(stack: Stack, receivers: Receivers) -> None:
    stack.extra |= {"WEBHOOKS_SLOTS": "8", "WEBHOOKS_SLOW_SLOTS": "4", "WEBHOOKS_TIMEOUT_SECONDS": "25"}
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    await stack.endpoint(receivers.url("/good"), event_types=["a.good"])
    await stack.publish("evt-first", "a.good")
    await until(stack.settled, what="the good one is known")
    for number in range(20):
        receivers.hangs(f"/hangs-{number}")
        await stack.endpoint(receivers.url(f"/hangs-{number}"), event_types=["a.hangs"])
    for number in range(5):
        await stack.publish(f"evt-hangs-{number}", "a.hangs")

    async def hanging() -> bool:
        return len(receivers.received) == 1 + 4

    await until(hanging, what="the slow slots taken")
    for number in range(50):
        await stack.publish(f"evt-{number}", "a.good")

    async def all_good() -> bool:
        return len(receivers.at("/good")) == 51

    await until(all_good, within=20, what="the good endpoint's events, while the others hang")
    assert len(receivers.received) == 51 + 4


async def test_a_new_endpoint_does_not_wait_for_any_number_that_are_known_to_hang(
    stack: Stack, receivers: Receivers
) -> None:
    stack.extra |= {"WEBHOOKS_SLOTS": "8", "WEBHOOKS_SLOW_SLOTS": "4", "WEBHOOKS_TIMEOUT_SECONDS": "20"}
    await stack.start("api")
    for number in range(30):
        receivers.hangs(f"/hangs-{number}")
        await stack.endpoint(receivers.url(f"/hangs-{number}"), event_types=["a.hangs"])
    await stack.sql("UPDATE endpoints SET failing_since = now()")
    await stack.publish("evt-hangs", "a.hangs")
    await stack.start("dispatcher")

    async def hanging() -> bool:
        return len(receivers.received) == 3

    await until(hanging, what="all but the last of the slow slots taken")
    for number in range(3):
        await stack.endpoint(receivers.url(f"/new-{number}"), event_types=["a.new"])
    await stack.publish("evt-new", "a.new")

    async def all_new() -> bool:
        return all(receivers.at(f"/new-{number}") for number in range(3))

    await until(all_new, within=15, what="the new endpoints' event, while the others hang")
    assert len(receivers.received) == 3 + 3


async def test_an_endpoint_without_a_public_address_is_never_called(stack: Stack, receivers: Receivers) -> None:
    await stack.start("api")
    await stack.endpoint(receivers.url("/a"))
    await stack.publish("evt-1")
    await stack.start("dispatcher", environment={"WEBHOOKS_ALLOW_LOOPBACK": "0"})

    await until(stack.settled, what="the end of the schedule")

    assert receivers.received == []
    (row,) = await stack.sql("SELECT DISTINCT outcome, error FROM attempts")
    assert row["outcome"] == "blocked"


async def test_a_deleted_endpoint_gets_nothing_more_and_what_waited_is_dead(stack: Stack, receivers: Receivers) -> None:
    stack.extra["WEBHOOKS_SCHEDULE"] = "0,30"
    receivers.answers("/a", 500)
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    made = await stack.endpoint(receivers.url("/a"))
    await stack.publish("evt-1")

    async def tried() -> bool:
        return await stack.states() == {"scheduled": 1} and bool(receivers.received)

    await until(tried, what="the first attempt")
    assert (await stack.request("DELETE", f"/v1/endpoints/{made['id']}")).status == 204
    await until(stack.settled, what="the burial")
    (row,) = await stack.sql("SELECT state, dead_reason FROM deliveries")
    assert (row["state"], row["dead_reason"]) == ("dead", "endpoint_deleted")
    assert (await stack.request("GET", f"/v1/endpoints/{made['id']}")).status == 404
    await stack.publish("evt-2")
    assert await stack.states() == {"dead": 1}


async def test_during_a_rotation_a_receiver_with_either_secret_accepts(stack: Stack, receivers: Receivers) -> None:
    stack.extra |= PATIENT
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    made = await stack.endpoint(receivers.url("/a"))
    rotated = await stack.request("POST", f"/v1/endpoints/{made['id']}/secret/rotate")
    assert rotated.status == 200
    assert rotated.json["secret"] != made["secret"]
    await stack.publish("evt-1")
    await until(stack.settled, what="delivery")
    (request,) = receivers.received
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    now = datetime.now(UTC).timestamp()
    for secret in (made["secret"], rotated.json["secret"]):
        assert verify(request.headers, request.body, [parse_verifying_key(secret)], now=now)


async def test_a_stop_lets_attempts_end_and_leaves_nothing_in_flight(stack: Stack, receivers: Receivers) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.Response(status=204)

    receivers.behaviours["/slow"] = slow
    receivers.hangs("/hangs")
    stack.extra |= {"DRAIN_SECONDS": "4", "WEBHOOKS_TIMEOUT_SECONDS": "20"}
    _, dispatcher = await asyncio.gather(stack.start("api"), stack.start("dispatcher"))
    for path in ("/slow", "/hangs"):
        await stack.endpoint(receivers.url(path))
    await stack.publish("evt-1")

    async def under_way() -> bool:
        return len(receivers.received) == 2

    await until(under_way, what="two attempts")
    assert await asyncio.to_thread(dispatcher.terminate) == 0
    assert await stack.states() == {"delivered": 1, "scheduled": 1}
    rows = await stack.sql("SELECT outcome FROM attempts ORDER BY outcome")
    assert [row["outcome"] for row in rows] == ["delivered", "interrupted"]


async def test_two_dispatchers_share_the_work_and_deliver_each_once(stack: Stack, receivers: Receivers) -> None:
    stack.extra |= PATIENT
    await asyncio.gather(stack.start("api"), stack.start("dispatcher"), stack.start("dispatcher"))
    for number in range(5):
        await stack.endpoint(receivers.url(f"/{number}"))
    for number in range(40):
        await stack.publish(f"evt-{number}")
    await until(stack.settled, what="delivery")
    assert len(receivers.received) == len({(each.path, each.json["id"]) for each in receivers.received}) == 200
