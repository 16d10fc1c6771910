"""Bad input for each endpoint: refused with a problem, nothing stored, nothing of others seen, nothing secret echoed."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.integration.webhooks.stack import APPLICATION, OTHER_APPLICATION, Answer, Stack

pytestmark = pytest.mark.integration

JSON = {"Content-Type": "application/json"}
URL = "http://127.0.0.1:9000/hook"


def fresh() -> str:
    return f"evt-{uuid4().hex}"


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["type"]) == (status, f"urn:lab:{code}"), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["title"]


def changed(whole: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (whole | changes).items() if value is not ...}


WRONG_ENDPOINTS: list[tuple[dict[str, Any], str]] = [
    ({"url": ...}, "invalid_request"),
    ({"url": 5}, "invalid_request"),
    ({"url": ""}, "invalid_request"),
    ({"url": "http://example.com/" + "x" * 3000}, "invalid_request"),
    ({"url": "ftp://example.com/"}, "forbidden_url"),
    ({"url": "http://user:secret@example.com/"}, "forbidden_url"),
    ({"url": "http://10.0.0.1/"}, "forbidden_url"),
    ({"url": "http://169.254.169.254/latest/meta-data"}, "forbidden_url"),
    ({"url": "http://100.64.0.1/"}, "forbidden_url"),
    ({"url": "http://[64:ff9b::a00:1]/"}, "forbidden_url"),
    ({"url": "http://2130706433/"}, "forbidden_url"),
    ({"url": "http://0x7f.1/"}, "forbidden_url"),
    ({"url": "http://example.com:22/"}, "forbidden_url"),
    ({"url": "http://exa mple.com/"}, "forbidden_url"),
    ({"url": "/hook"}, "forbidden_url"),
    ({"event_types": []}, "invalid_request"),
    ({"event_types": "order.paid"}, "invalid_request"),
    ({"event_types": ["order paid"]}, "invalid_request"),
    ({"event_types": ["*"]}, "invalid_request"),
    ({"event_types": ["a"] * 101}, "invalid_request"),
    ({"secret": "whsec_short"}, "invalid_secret"),
    ({"secret": "password"}, "invalid_secret"),
    ({"secret": 5}, "invalid_request"),
    ({"rate_per_second": 0}, "invalid_request"),
    ({"rate_per_second": -1}, "invalid_request"),
    ({"rate_per_second": 1.5}, "invalid_request"),
    ({"rate_per_second": 10_001}, "invalid_request"),
    ({"max_in_flight": 0}, "invalid_request"),
    ({"max_in_flight": "4"}, "invalid_request"),
    ({"description": "x" * 501}, "invalid_request"),
    ({"description": "a\x00b"}, "invalid_request"),
    ({"colour": "red"}, "invalid_request"),
]


@pytest.mark.parametrize(
    ("changes", "code"), WRONG_ENDPOINTS, ids=[str(changes)[:50] for changes, _ in WRONG_ENDPOINTS]
)
async def test_an_endpoint_that_makes_no_sense_is_refused(running: Stack, changes: dict[str, Any], code: str) -> None:
    wrong = changed({"url": URL}, changes)
    answer = await running.request("POST", "/v1/endpoints", json=wrong)
    assert_problem(answer, 422, code)
    if isinstance(changes.get("secret"), str):
        assert changes["secret"].encode() not in answer.body


WRONG_CHANGES: list[tuple[dict[str, Any], str]] = [
    case for case in WRONG_ENDPOINTS if case[0].get("url") is not ... and "secret" not in case[0]
] + [
    ({"enabled": "yes"}, "invalid_request"),
    ({"enabled": None}, "invalid_request"),
    ({"url": None}, "invalid_request"),
    ({"secret": "whsec_" + "A" * 44}, "invalid_request"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG_CHANGES, ids=[str(changes)[:50] for changes, _ in WRONG_CHANGES])
async def test_a_change_that_makes_no_sense_is_refused_whole(
    running: Stack, changes: dict[str, Any], code: str
) -> None:
    made = await running.endpoint(URL)
    body = {"description": "changed"} | changes
    assert_problem(await running.request("PATCH", f"/v1/endpoints/{made['id']}", json=body), 422, code)
    assert (await running.request("GET", f"/v1/endpoints/{made['id']}")).json["description"] is None


WRONG_MESSAGES = [
    ({"event_id": ...}, 422, "invalid_request"),
    ({"event_id": ""}, 422, "invalid_request"),
    ({"event_id": "x" * 201}, 422, "invalid_request"),
    ({"event_id": 'a"b'}, 422, "invalid_request"),
    ({"event_id": "a b"}, 422, "invalid_request"),
    ({"event_id": "a\n"}, 422, "invalid_request"),
    ({"event_id": 5}, 422, "invalid_request"),
    ({"event_type": ...}, 422, "invalid_request"),
    ({"event_type": "no type"}, 422, "invalid_request"),
    ({"event_type": ".a"}, 422, "invalid_request"),
    ({"event_type": "x" * 129}, 422, "invalid_request"),
    ({"event_type": "webhooks.endpoint.disabled"}, 422, "reserved_event_type"),
    ({"payload": ...}, 422, "invalid_request"),
    ({"payload": None}, 422, "payload_does_not_fit"),
    ({"payload": []}, 422, "payload_does_not_fit"),
    ({"payload": "text"}, 422, "payload_does_not_fit"),
    ({"payload": {"a": "x" * 262_200}}, 413, "payload_too_large"),
    ({"payload": {"a": "x" * 300_000}}, 413, "body_too_large"),
    ({"colour": "red"}, 422, "invalid_request"),
]


@pytest.mark.parametrize(
    ("changes", "status", "code"), WRONG_MESSAGES, ids=[str(changes)[:40] for changes, *_ in WRONG_MESSAGES]
)
async def test_a_message_that_makes_no_sense_is_refused_and_its_event_id_is_not_burnt(
    running: Stack, changes: dict[str, Any], status: int, code: str
) -> None:
    whole = {"event_id": fresh(), "event_type": "order.paid", "payload": {"amount": 1}}
    assert_problem(await running.request("POST", "/v1/messages", json=changed(whole, changes)), status, code)
    assert (await running.request("POST", "/v1/messages", json=whole)).status == 202


async def test_a_payload_of_256_kib_is_taken(running: Stack) -> None:
    payload = {"a": "x" * (256 * 1024 - 8)}
    whole = {"event_id": fresh(), "event_type": "order.paid", "payload": payload}
    assert (await running.request("POST", "/v1/messages", json=whole)).status == 202


async def test_a_payload_nested_too_deep_is_refused(running: Stack) -> None:
    data = b'{"event_id":"%b","event_type":"a","payload":{"a":%b1%b}}' % (fresh().encode(), b"[" * 5000, b"]" * 5000)
    answer = await running.request("POST", "/v1/messages", data=data, headers=JSON)
    assert answer.status in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_payload_that_does_not_fit_its_schema_is_refused_with_the_place(running: Stack) -> None:
    schema = {"properties": {"lines": {"items": {"required": ["sku"]}}}}
    name = f"order.t{uuid4().hex}"
    assert (await running.request("PUT", f"/v1/event-types/{name}", json={"schema": schema})).status == 200
    wrong = {"event_id": fresh(), "event_type": name, "payload": {"lines": [{"sku": 1}, {}]}}
    answer = await running.request("POST", "/v1/messages", json=wrong)
    assert_problem(answer, 422, "payload_does_not_fit")
    assert (answer.json["at"], answer.json["rule"]) == ("/lines/1", "required")
    # Another application's types are its own.
    assert (await running.request("POST", "/v1/messages", json=wrong, application=OTHER_APPLICATION)).status == 202


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("a.b", {"schema": {"pattern": "(a+)+$"}}, "invalid_schema"),
        ("a.b", {"schema": {"$ref": "http://127.0.0.1/"}}, "invalid_schema"),
        ("a.b", {"schema": []}, "invalid_request"),
        ("a.b", {"schema": "x"}, "invalid_request"),
        ("a.b", {"description": 5}, "invalid_request"),
        ("a.b", {"colour": 5}, "invalid_request"),
        ("a%20b", {}, "invalid_request"),
        ("x" * 129, {}, "invalid_request"),
        ("webhooks.mine", {}, "reserved_event_type"),
    ],
)
async def test_an_event_type_that_makes_no_sense_is_refused(
    running: Stack, name: str, body: dict[str, Any], code: str
) -> None:
    assert_problem(await running.request("PUT", f"/v1/event-types/{name}", json=body), 422, code)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"states": []}, 422, "invalid_request"),
        ({"states": ["scheduled"]}, 422, "invalid_request"),
        ({"states": "dead"}, 422, "invalid_request"),
        ({"rate_per_second": 0}, 422, "invalid_request"),
        ({"rate_per_second": 10_001}, 422, "invalid_request"),
        ({"after": "yesterday"}, 422, "invalid_request"),
        ({"after": "2026-01-01T00:00:00"}, 422, "invalid_request"),
        ({"after": "2026-01-02T00:00:00Z", "before": "2026-01-01T00:00:00Z"}, 422, "invalid_range"),
        ({"after": "1900-01-01T00:00:00Z"}, 422, "invalid_range"),
        ({"endpoint": "ep_nothing"}, 404, "no_such_endpoint"),
        ({"message": "msg_nothing"}, 404, "no_such_message"),
        ({"endpoint": 5}, 422, "invalid_request"),
        ({"dry_run": "yes"}, 422, "invalid_request"),
        ({"colour": "red"}, 422, "invalid_request"),
    ],
)
async def test_a_replay_that_makes_no_sense_is_refused(
    running: Stack, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await running.request("POST", "/v1/replays", json=body, headers={"Idempotency-Key": fresh()})
    assert_problem(answer, status, code)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "idempotency_key_missing"),
        ({"Idempotency-Key": ""}, "idempotency_key_invalid"),
        ({"Idempotency-Key": "a b"}, "idempotency_key_invalid"),
        ({"Idempotency-Key": "x" * 256}, "idempotency_key_invalid"),
    ],
)
async def test_a_replay_needs_one_good_key(running: Stack, headers: dict[str, str], code: str) -> None:
    assert_problem(await running.request("POST", "/v1/replays", json={}, headers=headers), 400, code)


@pytest.mark.parametrize("path", ["/v1/endpoints", "/v1/messages", "/v1/replays"])
@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"", JSON, 400, "invalid_json"),
        (b"{", JSON, 400, "invalid_json"),
        (b"\xff\xfe", JSON, 400, "invalid_json"),
        (b"[]", JSON, 422, "invalid_request"),
        (b"null", JSON, 422, "invalid_request"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported_media_type"),
        (b'{"x":"' + b"x" * 300_000 + b'"}', JSON, 413, "body_too_large"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    running: Stack, path: str, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    sent = {**headers, "Idempotency-Key": fresh()}
    assert_problem(await running.request("POST", path, data=data, headers=sent), status, code)


ROUTES = [
    ("POST", "/v1/endpoints"),
    ("GET", "/v1/endpoints"),
    ("GET", "/v1/endpoints/{endpoint}"),
    ("PATCH", "/v1/endpoints/{endpoint}"),
    ("DELETE", "/v1/endpoints/{endpoint}"),
    ("POST", "/v1/endpoints/{endpoint}/secret/rotate"),
    ("PUT", "/v1/event-types/order.paid"),
    ("GET", "/v1/event-types"),
    ("POST", "/v1/messages"),
    ("GET", "/v1/messages"),
    ("GET", "/v1/messages/{message}"),
    ("GET", "/v1/messages/{message}/attempts"),
    ("POST", "/v1/messages/{message}/resend"),
    ("POST", "/v1/replays"),
    ("GET", "/v1/replays/{replay}"),
]
NOWHERE = {
    "endpoint": "ep_01m81f965se1srvd1y9nsseadm",
    "message": "msg_01m81f965se1srvd1y9nsseadm",
    "replay": "rpl_01m81f965se1srvd1y9nsseadm",
}


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", "Basic bGFi", "Bearer lab_demo_application_keyx", "Bearer é"]
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nobody_gets_in_without_a_key(running: Stack, method: str, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await running.request(method, path.format(**NOWHERE), json={}, application=headers)
    assert_problem(answer, 401, "unauthorised")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/endpoints/{endpoint}", None),
        ("PATCH", "/v1/endpoints/{endpoint}", {"enabled": False}),
        ("DELETE", "/v1/endpoints/{endpoint}", None),
        ("POST", "/v1/endpoints/{endpoint}/secret/rotate", {}),
        ("GET", "/v1/messages/{message}", None),
        ("GET", "/v1/messages/{message}/attempts", None),
        ("POST", "/v1/messages/{message}/resend", {"endpoint": "{endpoint}"}),
        ("POST", "/v1/replays", {"endpoint": "{endpoint}"}),
        ("POST", "/v1/replays", {"message": "{message}"}),
        ("GET", "/v1/replays/{replay}", None),
    ],
)
async def test_what_belongs_to_another_application_is_not_there(
    running: Stack, method: str, path: str, body: dict[str, Any] | None
) -> None:
    endpoint = await running.endpoint(URL)
    message = (await running.publish(fresh())).json
    key = {"Idempotency-Key": fresh()}
    replay = (await running.request("POST", "/v1/replays", json={}, headers=key)).json
    names = {"endpoint": endpoint["id"], "message": message["id"], "replay": replay["id"]}
    filled = body and {name: value.format(**names) if isinstance(value, str) else value for name, value in body.items()}
    answer = await running.request(
        method, path.format(**names), json=filled, headers=key, application=OTHER_APPLICATION
    )
    assert answer.status == 404
    missing = await running.request(
        method,
        path.format(**NOWHERE),
        json=body
        and {name: value.format(**NOWHERE) if isinstance(value, str) else value for name, value in body.items()},
        headers=key,
        application=OTHER_APPLICATION,
    )
    assert (missing.status, missing.json["type"]) == (404, answer.json["type"])


@pytest.mark.parametrize("identity", ["nothing", "ep_", "msg_01m81f965se1srvd1y9nsseadm", "ep_" + "z" * 26, "%00", "é"])
async def test_an_id_that_is_none_is_not_there(running: Stack, identity: str) -> None:
    for method, path in ROUTES:
        if "{endpoint}" not in path:
            continue
        answer = await running.request(method, path.format(endpoint=identity), json={})
        assert_problem(answer, 404, "no_such_endpoint")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1&limit=2",
        "cursor=nothing",
        "cursor=ep_01m81f965se1srvd1y9nsseadm",
        "state=lost",
        "after=yesterday",
        "after=2026-01-01T00:00:00",
        "after=2026-01-02T00:00:00Z&before=2026-01-01T00:00:00Z",
        "endpoint=nothing",
        "event_type=%00",
        "event_type=order..paid",
        "after=0001-01-01T00:00:00%2B23:59",
        "before=9999-12-31T23:59:59-23:59",
        "colour=red",
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(running: Stack, query: str) -> None:
    answer = await running.request("GET", f"/v1/messages?{query}")
    assert answer.status == 422
    assert answer.json["type"] in ("urn:lab:invalid_request", "urn:lab:invalid_range")


async def test_the_same_event_id_gets_the_same_answer_and_other_content_a_409(running: Stack) -> None:
    event = fresh()
    first = await running.publish(event, amount=1)
    again = await running.request(
        "POST",
        "/v1/messages",
        data=b'{ "payload": {"amount": 1.0}, "event_type": "order.paid", "event_id": "%b" }' % event.encode(),
        headers=JSON,
    )
    assert (again.status, again.body) == (202, first.body)
    other = await running.publish(event, amount=2)
    assert_problem(other, 409, "event_id_reused")
    assert other.json["message"] == first.json["id"]
    # The same id of another application is another event.
    assert (await running.publish(event, amount=2, application=OTHER_APPLICATION)).status == 202


async def test_beyond_the_backlog_messages_are_refused_with_a_time_to_come_back(stack: Stack) -> None:
    stack.extra["WEBHOOKS_MAX_BACKLOG"] = "2"
    await stack.start("api")
    await stack.endpoint(URL)
    answers = [await stack.publish(f"evt-{number}") for number in range(4)]
    assert [each.status for each in answers] == [202, 202, 429, 429]
    assert_problem(answers[3], 429, "backlog_full")
    assert int(answers[3].headers["Retry-After"]) > 0
    assert (await stack.publish("evt-1", application=OTHER_APPLICATION)).status == 202


async def test_beyond_the_bound_endpoints_are_refused(stack: Stack) -> None:
    stack.extra["WEBHOOKS_MAX_ENDPOINTS"] = "1"
    await stack.start("api")
    await stack.endpoint(URL)
    assert_problem(await stack.request("POST", "/v1/endpoints", json={"url": URL}), 409, "too_many_endpoints")


async def test_no_secret_is_in_any_log_nor_in_the_database(stack: Stack) -> None:
    await stack.start("api")
    secret = "whsec_" + "QUJD" * 8 + "QUI="
    made = await stack.endpoint(URL, secret=secret)
    assert made["secret"] == secret
    await stack.request("POST", f"/v1/endpoints/{made['id']}/secret/rotate", json={"secret": secret})
    (row,) = await stack.sql(
        "SELECT secrets, (SELECT string_agg(key_sha256::text, '') FROM api_keys) AS keys FROM endpoints"
    )
    assert secret.encode() not in row["secrets"]
    assert b"ABCABC" not in row["secrets"]
    assert "secret" not in (await stack.request("GET", f"/v1/endpoints/{made['id']}")).json
    logs = "".join(process.log.read_text() for process in stack.processes)
    assert secret not in logs
    assert APPLICATION["Authorization"].split()[1] not in logs + row["keys"]


async def test_a_default_secret_is_refused_outside_the_lab(stack: Stack) -> None:
    with pytest.raises(AssertionError, match="holds a default of the lab"):
        await stack.start("api", environment={"LAB_PROFILE": "0"})


async def test_loopback_is_refused_outside_the_lab(stack: Stack) -> None:
    own = {
        "LAB_PROFILE": "0",
        "WEBHOOKS_SECRETS_KEY": "a secret of our own 1234",
        "WEBHOOKS_DATABASE_URL": "postgresql://webhooks_app:own@127.0.0.1:1/webhooks",
    }
    with pytest.raises(AssertionError, match="WEBHOOKS_ALLOW_LOOPBACK"):
        await stack.start("dispatcher", environment=own)
