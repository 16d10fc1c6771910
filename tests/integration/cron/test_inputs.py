"""Bad input for each endpoint: refused with a problem, nothing stored; and the walls between tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.cron.stack import OTHER_TENANT, TENANT, Answer, Stack
from tests.servers import PostgresServer

pytestmark = pytest.mark.integration

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="session")
def running(postgres_server: PostgresServer) -> Iterator[Stack]:
    """An API without schedulers, shared: each test uses names of its own."""
    made = Stack(postgres_server)

    async def begin() -> None:
        await made.migrate()
        await made.start("api")

    try:
        asyncio.run(begin())
        yield made
    finally:
        made.stop()


def fresh() -> str:
    return f"job-{uuid4().hex}"


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["type"]) == (status, f"urn:lab:{code}"), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["title"]


HTTP = "http://93.184.215.14/x"


def cron(expression: str, zone: str = "UTC") -> dict[str, Any]:
    return {"schedule": {"cron": expression, "zone": zone}}


def http(url: Any, **more: Any) -> dict[str, Any]:
    return {"target": {"http": {"url": url, **more}}}


WRONG = [
    ({"name": ...}, "invalid_request"),
    ({"name": ""}, "invalid_request"),
    ({"name": "a b"}, "invalid_request"),
    ({"name": "a\n"}, "invalid_request"),
    ({"name": "x" * 101}, "invalid_request"),
    ({"name": 1}, "invalid_request"),
    ({"schedule": ...}, "invalid_request"),
    ({"schedule": "* * * * *"}, "invalid_request"),
    ({"schedule": {}}, "invalid_schedule"),
    ({"schedule": {"zone": "UTC"}}, "invalid_schedule"),
    ({"schedule": {"cron": "* * * * *", "every_seconds": 1}}, "invalid_schedule"),
    ({"schedule": {"every_seconds": 1, "zone": "UTC"}}, "invalid_schedule"),
    ({"schedule": {"every_seconds": 0}}, "invalid_request"),
    ({"schedule": {"every_seconds": 1.5}}, "invalid_request"),
    ({"schedule": {"every_seconds": 10**9}}, "invalid_request"),
    ({"schedule": {"every_seconds": True}}, "invalid_request"),
    ({"schedule": {"every_minutes": 1}}, "invalid_request"),
    (cron("x" * 201), "invalid_request"),
    (cron("* * * * * *"), "invalid_schedule"),
    (cron("0 0 30 2 *"), "invalid_schedule"),
    (cron("* * * * *", "Mars/Olympus"), "invalid_schedule"),
    ({"target": ...}, "invalid_request"),
    ({"target": {}}, "invalid_target"),
    ({"target": {"http": {"url": HTTP}, "kafka": {"topic": "cron.a"}}}, "invalid_target"),
    ({"target": {"smtp": {}}}, "invalid_request"),
    (http(1), "invalid_request"),
    (http(""), "invalid_request"),
    (http("ftp://example.com/"), "invalid_target"),
    (http("http://user:pw@example.com/"), "invalid_target"),
    (http("http://10.0.0.1/"), "invalid_target"),
    (http("http://169.254.169.254/latest/meta-data"), "invalid_target"),
    (http("http://[fe80::1]/"), "invalid_target"),
    (http("http://2130706433/"), "invalid_target"),
    (http("http://example.com:22/"), "invalid_target"),
    (http("not a url"), "invalid_target"),
    (http(HTTP, body="x" * 17_000), "invalid_target"),
    (http(HTTP, method="GET"), "invalid_request"),
    ({"target": {"kafka": {"topic": "payments.payment.v1"}}}, "invalid_target"),
    ({"target": {"kafka": {"topic": "cron.A B"}}}, "invalid_target"),
    ({"target": {"kafka": {"topic": "cron.a", "key": ""}}}, "invalid_request"),
    ({"misfire": {"policy": "sometimes"}}, "invalid_request"),
    ({"misfire": {"policy": "all", "cap": 0}}, "invalid_request"),
    ({"misfire": {"policy": "all", "cap": 1001}}, "invalid_request"),
    ({"misfire": {"policy": "skip", "deadline_seconds": 0}}, "invalid_request"),
    ({"concurrency": "queue"}, "invalid_request"),
    ({"jitter_seconds": -1}, "invalid_request"),
    ({"jitter_seconds": 86_401}, "invalid_request"),
    ({"retries": 11}, "invalid_request"),
    ({"timeout_seconds": 0}, "invalid_request"),
    ({"enabled": "yes"}, "invalid_request"),
    ({"colour": "red"}, "invalid_request"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG, ids=[str(changes)[:60] for changes, _ in WRONG])
async def test_a_job_that_makes_no_sense_is_refused(running: Stack, changes: dict[str, Any], code: str) -> None:
    body = running.body(fresh(), **changes)
    assert_problem(await running.request("POST", "/v1/jobs", json=body), 422, code)
    if "name" in body:
        assert not await running.sql("SELECT 1 FROM jobs WHERE name = $1", str(body["name"]))


@pytest.mark.parametrize(
    ("expression", "field"),
    [("60 * * * *", "minute"), ("* 24 * * *", "hour"), ("* * 0 * *", "day-of-month"), ("* * * 13 *", "month"), ("* * * * 9", "day-of-week")],
)  # fmt: skip
async def test_a_bad_expression_is_refused_with_the_name_of_its_field(
    running: Stack, expression: str, field: str
) -> None:
    answer = await running.request("POST", "/v1/jobs", json=running.body(fresh(), **cron(expression)))
    assert_problem(answer, 422, "invalid_schedule")
    assert answer.json["field"] == field
    assert answer.json["detail"].startswith(field)


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_json"),
        (b"", JSON, 400, "invalid_json"),
        (b"\xff\xfe", JSON, 400, "invalid_json"),
        (b"[]", JSON, 422, "invalid_request"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported_media_type"),
        (b"x" * 70_000, JSON, 413, "body_too_large"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    running: Stack, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    assert_problem(await running.request("POST", "/v1/jobs", data=data, headers=headers), status, code)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer "}, {"Authorization": "Bearer nobody"}, {"Authorization": "Basic bGFi"}, {"Authorization": "Bearer é"}],
)  # fmt: skip
async def test_without_a_key_of_ours_nothing_is_said(running: Stack, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("POST", "/v1/jobs/job_x/run")):
        assert_problem(await running.request(method, path, tenant=headers), 401, "unauthorised")


async def test_another_tenants_job_does_not_exist(running: Stack) -> None:
    job = await running.create(fresh())
    key = {"Idempotency-Key": "k"}
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("GET", "/next", None),
        ("GET", "/runs", None),
        ("POST", "/run", None),
    ):
        answer = await running.request(method, f"/v1/jobs/{job}{path}", json=body, headers=key, tenant=OTHER_TENANT)
        assert_problem(answer, 404, "no_such_job")
    listed = await running.request("GET", "/v1/jobs?limit=100", tenant=OTHER_TENANT)
    assert listed.json == {"data": [], "next_cursor": None}
    assert (await running.request("GET", f"/v1/jobs/{job}")).json["enabled"] is True


@pytest.mark.parametrize(
    "text", ["job_", "job_x", "pay_01h455vb4pex5vsknk084sn02q", "%00", "1", "job_01h455vb4pex5vsknk084sn02q"]
)
async def test_an_id_that_is_none_names_no_job(running: Stack, text: str) -> None:
    assert_problem(await running.request("GET", f"/v1/jobs/{text}"), 404, "no_such_job")


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=101",
        "?limit=x",
        "?limit=",
        "?cursor=x",
        "?cursor=pay_01h455vb4pex5vsknk084sn02q",
        "?colour=red",
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(running: Stack, query: str) -> None:
    assert_problem(await running.request("GET", f"/v1/jobs{query}"), 422, "invalid_request")
    job = await running.create(fresh())
    assert_problem(await running.request("GET", f"/v1/jobs/{job}/runs{query}"), 422, "invalid_request")


@pytest.mark.parametrize("query", ["?count=0", "?count=101", "?count=x", "?limit=1"])
async def test_a_preview_of_a_senseless_count_is_refused(running: Stack, query: str) -> None:
    job = await running.create(fresh())
    assert_problem(await running.request("GET", f"/v1/jobs/{job}/next{query}"), 422, "invalid_request")


@pytest.mark.parametrize("cursor", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "2026-01-01"])
async def test_a_cursor_that_is_no_time_of_ours_is_refused(running: Stack, cursor: str) -> None:
    job = await running.create(fresh())
    assert_problem(await running.request("GET", f"/v1/jobs/{job}/runs?cursor={cursor}"), 422, "invalid_request")


async def test_a_runs_state_that_is_none_is_refused(running: Stack) -> None:
    job = await running.create(fresh())
    assert_problem(await running.request("GET", f"/v1/jobs/{job}/runs?state=happy"), 422, "invalid_request")


async def test_a_name_is_used_once_and_free_again_after_the_delete(running: Stack) -> None:
    name = fresh()
    job = await running.create(name)
    again = await running.request("POST", "/v1/jobs", json=running.body(name))
    assert_problem(again, 409, "name_in_use")
    assert again.json["job"] == job
    other = await running.request("POST", "/v1/jobs", json=running.body(name), tenant=OTHER_TENANT)
    assert other.status == 201, "a name is a tenant's own"
    await running.request("DELETE", f"/v1/jobs/{other.json['id']}", tenant=OTHER_TENANT)
    assert (await running.request("DELETE", f"/v1/jobs/{job}")).status == 204
    assert_problem(await running.request("GET", f"/v1/jobs/{job}"), 404, "no_such_job")
    assert await running.create(name) != job


async def create_with(stack: Stack, key: str, body: dict[str, Any], **more: Any) -> Answer:
    return await stack.request("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key}, **more)


async def test_the_same_key_and_request_get_the_first_answer_again_whatever_became_of_the_job(running: Stack) -> None:
    name = fresh()
    first = await create_with(running, name, running.body(name))
    assert (first.status, "Idempotent-Replayed" in first.headers) == (201, False)
    shuffled = dict(reversed(running.body(name).items()))
    for change in ("nothing", "PATCH", "DELETE"):
        if change != "nothing":
            path = f"/v1/jobs/{first.json['id']}"
            body = {"retries": 7} if change == "PATCH" else None
            assert (await running.request(change, path, json=body)).status in (200, 204)
        again = await create_with(running, name, shuffled)
        assert (again.status, again.body) == (201, first.body), change
        assert again.headers["Idempotent-Replayed"] == "true"
        assert [again.headers[one] for one in ("Location", "ETag")] == [
            first.headers[one] for one in ("Location", "ETag")
        ]


async def test_a_key_with_another_request_is_refused_and_makes_nothing(running: Stack) -> None:
    name = fresh()
    await create_with(running, name, running.body(name))
    other = await create_with(running, name, running.body(name + "-other"))
    assert_problem(other, 422, "idempotency_key_reused")
    assert not await running.sql("SELECT 1 FROM jobs WHERE name = $1", name + "-other")


async def test_a_key_is_a_tenant_s_own(running: Stack) -> None:
    name = fresh()
    first = await create_with(running, name, running.body(name))
    other = await create_with(running, name, running.body(name), tenant=OTHER_TENANT)
    assert other.status == 201
    assert other.json["id"] != first.json["id"]


async def test_a_refusal_uses_up_no_key(running: Stack) -> None:
    name = fresh()
    job = await running.create(name)
    assert_problem(await create_with(running, name, running.body(name)), 409, "name_in_use")
    assert_problem(await create_with(running, name, running.body(name, schedule={})), 422, "invalid_schedule")
    await running.request("DELETE", f"/v1/jobs/{job}")
    assert (await create_with(running, name, running.body(name))).status == 201


async def test_twenty_at_once_under_one_key_make_one_job_and_all_get_its_answer(running: Stack) -> None:
    name = fresh()
    answers = await asyncio.gather(*(create_with(running, name, running.body(name)) for _ in range(20)))
    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert len(await running.sql("SELECT 1 FROM jobs WHERE name = $1", name)) == 1


async def test_a_key_that_has_expired_is_as_new(running: Stack) -> None:
    name = fresh()
    first = await create_with(running, name, running.body(name))
    await running.sql("UPDATE idempotency_keys SET expires_at = now() WHERE key = $1", name)
    assert_problem(await create_with(running, name, running.body(name)), 409, "name_in_use")
    await running.request("DELETE", f"/v1/jobs/{first.json['id']}")
    second = await create_with(running, name, running.body(name))
    assert (second.status, "Idempotent-Replayed" in second.headers) == (201, False)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e4"])
async def test_a_malformed_key_is_refused(running: Stack, key: str) -> None:
    name = fresh()
    assert_problem(await create_with(running, key, running.body(name)), 400, "idempotency_key_invalid")
    assert not await running.sql("SELECT 1 FROM jobs WHERE name = $1", name)


async def test_garbage_with_a_key_is_still_garbage(running: Stack) -> None:
    headers = {"Idempotency-Key": fresh(), "Content-Type": "application/json"}
    assert (await running.request("POST", "/v1/jobs", data=b"{", headers=headers)).status == 400


async def test_a_job_is_changed_only_in_the_version_that_was_read(running: Stack) -> None:
    job = await running.create(fresh())
    first = await running.request("GET", f"/v1/jobs/{job}")
    etag = {"If-Match": first.headers["ETag"]}
    changed = await running.request("PATCH", f"/v1/jobs/{job}", json={"retries": 3}, headers=etag)
    assert (changed.status, changed.json["retries"], changed.json["version"]) == (200, 3, 2)
    assert_problem(
        await running.request("PATCH", f"/v1/jobs/{job}", json={"retries": 4}, headers=etag), 412, "version_mismatch"
    )
    assert_problem(await running.request("DELETE", f"/v1/jobs/{job}", headers=etag), 412, "version_mismatch")
    for garbage in ("2", '"x"', 'W/"2"', '""', '"99999999999999999999"'):
        answer = await running.request("PATCH", f"/v1/jobs/{job}", json={}, headers={"If-Match": garbage})
        assert_problem(answer, 412, "version_mismatch")
    assert (await running.request("PATCH", f"/v1/jobs/{job}", json={}, headers={"If-Match": "*"})).status == 200


async def test_a_patch_changes_what_is_given_and_nothing_else(running: Stack) -> None:
    job = await running.create(fresh(), **cron("0 12 * * *", "Europe/Berlin"), jitter_seconds=7)
    before = (await running.request("GET", f"/v1/jobs/{job}")).json
    after = (await running.request("PATCH", f"/v1/jobs/{job}", json={"enabled": False})).json
    moved = {"enabled", "version", "updated_at"}
    assert {name for name in before if before[name] != after[name]} == moved
    assert_problem(await running.request("PATCH", f"/v1/jobs/{job}", json={"id": "x"}), 422, "invalid_request")
    assert_problem(
        await running.request("PATCH", f"/v1/jobs/{job}", json={"schedule": {"cron": "61 * * * *"}}),
        422,
        "invalid_schedule",
    )
    taken = await running.request("GET", f"/v1/jobs/{await running.create(fresh())}")
    assert_problem(
        await running.request("PATCH", f"/v1/jobs/{job}", json={"name": taken.json["name"]}), 409, "name_in_use"
    )


async def test_pages_give_each_job_once(running: Stack) -> None:
    made = {await running.create(fresh()) for _ in range(5)}
    seen: list[str] = []
    path = "/v1/jobs?limit=2"
    while True:
        page = (await running.request("GET", path)).json
        seen += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        path = f"/v1/jobs?limit=2&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen))
    assert made <= set(seen)


async def test_the_preview_shows_the_next_ten_in_the_jobs_zone(running: Stack) -> None:
    job = await running.create(fresh(), **cron("30 2 * * *", "Europe/Berlin"), jitter_seconds=60)
    found = (await running.request("GET", f"/v1/jobs/{job}/next")).json["data"]
    assert len(found) == 10
    assert all("T02:30:00+0" in each["local"] or "T03:00:00+0" in each["local"] for each in found)
    assert all(datetime.fromisoformat(each["at"]) <= datetime.fromisoformat(each["due_at"]) for each in found)
    assert len((await running.request("GET", f"/v1/jobs/{job}/next?count=3")).json["data"]) == 3


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 400, "idempotency_key_missing"),
        ({"Idempotency-Key": ""}, 400, "idempotency_key_invalid"),
        ({"Idempotency-Key": "a b"}, 400, "idempotency_key_invalid"),
        ({"Idempotency-Key": "x" * 256}, 400, "idempotency_key_invalid"),
    ],
)
async def test_a_manual_run_needs_a_key(running: Stack, headers: dict[str, str], status: int, code: str) -> None:
    job = await running.create(fresh())
    assert_problem(await running.request("POST", f"/v1/jobs/{job}/run", headers=headers), status, code)


async def test_a_manual_run_sent_twice_is_one_run(running: Stack) -> None:
    job = await running.create(fresh(), enabled=False)
    answers = await asyncio.gather(
        *(running.request("POST", f"/v1/jobs/{job}/run", headers={"Idempotency-Key": "k"}) for _ in range(5))
    )
    assert {answer.status for answer in answers} == {202}, [answer.body for answer in answers]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 4
    other = await running.request("POST", f"/v1/jobs/{job}/run", headers={"Idempotency-Key": "l"})
    assert other.json["id"] != answers[0].json["id"]
    with_body = await running.request("POST", f"/v1/jobs/{job}/run", json={"a": 1}, headers={"Idempotency-Key": "m"})
    assert_problem(with_body, 422, "invalid_request")


async def test_a_job_that_forbids_overlap_is_not_run_by_hand_while_a_run_is_open(running: Stack) -> None:
    job = await running.create(fresh(), concurrency="forbid", **cron("0 0 1 1 *"))
    answers = await asyncio.gather(
        *(running.request("POST", f"/v1/jobs/{job}/run", headers={"Idempotency-Key": f"k{n}"}) for n in range(5))
    )
    refused = [answer for answer in answers if answer.status != 202]
    assert len(refused) == 4
    for answer in refused:
        assert_problem(answer, 409, "run_active")


async def test_a_pile_of_manual_runs_has_a_bound(running: Stack) -> None:
    job = await running.create(fresh(), **cron("0 0 1 1 *"))
    for n in range(100):
        assert (
            await running.request("POST", f"/v1/jobs/{job}/run", headers={"Idempotency-Key": f"k{n}"})
        ).status == 202
    answer = await running.request("POST", f"/v1/jobs/{job}/run", headers={"Idempotency-Key": "one more"})
    assert_problem(answer, 400, "idempotency_key_invalid")
    answer = await running.request("POST", f"/v1/jobs/{job}/run", headers={"Idempotency-Key": "one-more"})
    assert_problem(answer, 429, "backlog_full")
    assert answer.headers["Retry-After"]


async def test_openapi_describes_the_routes(running: Stack) -> None:
    document = (await running.request("GET", "/openapi.json", tenant=TENANT)).json
    assert set(document["paths"]) == {
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/next",
        "/v1/jobs/{job_id}/runs",
        "/v1/jobs/{job_id}/run",
    }
