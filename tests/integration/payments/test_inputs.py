"""Bad input for each endpoint: refused with a problem, nothing stored, nothing charged, nothing echoed."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.payments.stack import MERCHANT, OTHER_MERCHANT, WEBHOOK_SECRET, Answer, Stack

pytestmark = pytest.mark.integration

JSON = {"Content-Type": "application/json"}


def fresh() -> str:
    return uuid4().hex


def body(**changes: Any) -> dict[str, Any]:
    reference = fresh()
    whole = {"amount": 1000, "currency": "EUR", "source": f"tok_{reference}", "reference": reference}
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["type"]) == (status, f"urn:lab:{code}"), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["title"]


async def test_metadata_is_told_back_and_is_part_of_what_a_key_stands_for(running: Stack) -> None:
    bought = {"sku": "LAMP-1", "note": 'ünï "quoted" \\ \n'}
    paid = await running.pay("metadata-1", key="metadata-1", metadata=bought)
    assert (paid.status, paid.json["metadata"]) == (201, bought)
    found = await running.request("GET", f"/v1/payments/{paid.json['id']}")
    assert found.json["metadata"] == bought
    other = await running.pay("metadata-1", key="metadata-1", metadata={"sku": "LAMP-2"})
    assert_problem(other, 422, "idempotency_key_reused")
    assert (await running.pay("metadata-2")).json["metadata"] == {}


WRONG_BODIES = [
    ({"amount": "1000"}, "invalid_request"),
    ({"amount": 10.5}, "invalid_request"),
    ({"amount": True}, "invalid_request"),
    ({"amount": None}, "invalid_request"),
    ({"amount": 0}, "invalid_request"),
    ({"amount": -1}, "invalid_request"),
    ({"amount": 10**12 + 1}, "invalid_request"),
    ({"amount": 10**30}, "invalid_request"),
    ({"amount": ...}, "invalid_request"),
    ({"currency": "eur"}, "invalid_request"),
    ({"currency": "EURO"}, "invalid_request"),
    ({"currency": "EUR\n"}, "invalid_request"),
    ({"currency": ...}, "invalid_request"),
    ({"currency": "XXX"}, "unknown_currency"),
    ({"source": ...}, "invalid_request"),
    ({"source": ""}, "invalid_request"),
    ({"source": 1}, "invalid_request"),
    ({"source": "tok_" + "x" * 252}, "invalid_request"),
    ({"source": "card"}, "invalid_source"),
    ({"source": "tok_"}, "invalid_source"),
    ({"source": "tok_a b"}, "invalid_source"),
    ({"source": "tok_é"}, "invalid_source"),
    ({"source": "tok_a\x00"}, "invalid_source"),
    ({"source": "4111111111111111"}, "card_number_refused"),
    ({"source": "4111 1111 1111 1111"}, "card_number_refused"),
    ({"source": "tok_4111-1111-1111-1111"}, "card_number_refused"),
    ({"reference": ...}, "invalid_request"),
    ({"reference": ""}, "invalid_request"),
    ({"reference": "x" * 201}, "invalid_request"),
    ({"reference": "a\x00b"}, "invalid_request"),
    ({"reference": "a\nb"}, "invalid_request"),
    ({"reference": "a\n"}, "invalid_request"),
    ({"reference": ["a"]}, "invalid_request"),
    ({"capture": "sometimes"}, "invalid_request"),
    ({"description": "x" * 501}, "invalid_request"),
    ({"description": "a\x00b"}, "invalid_request"),
    ({"metadata": None}, "invalid_request"),
    ({"metadata": ["sku"]}, "invalid_request"),
    ({"metadata": {"sku": 7}}, "invalid_request"),
    ({"metadata": {"sku": {"a": "b"}}}, "invalid_request"),
    ({"metadata": {"": "x"}}, "invalid_request"),
    ({"metadata": {"a b": "x"}}, "invalid_request"),
    ({"metadata": {"x" * 41: "x"}}, "invalid_request"),
    ({"metadata": {"sku": "x" * 501}}, "invalid_request"),
    ({"metadata": {"sku": "a\x00b"}}, "invalid_request"),
    ({"metadata": {f"name-{number}": "x" for number in range(21)}}, "invalid_request"),
    ({"colour": "red"}, "invalid_request"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG_BODIES, ids=[str(changes)[:40] for changes, _ in WRONG_BODIES])
async def test_a_payment_that_makes_no_sense_is_refused_and_its_key_is_not_burnt(
    running: Stack, changes: dict[str, Any], code: str
) -> None:
    key, wrong = fresh(), body(**changes)
    assert_problem(await running.request("POST", "/v1/payments", json=wrong, key=key), 422, code)
    assert (await running.request("POST", "/v1/payments", json=body(), key=key)).status == 201


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"", JSON, 400, "invalid_json"),
        (b"{", JSON, 400, "invalid_json"),
        (b'{"amount": 1000', JSON, 400, "invalid_json"),
        (b"\xff\xfe", JSON, 400, "invalid_json"),
        (b'{"amount":1000,"currency":"EUR","source":"tok_\xff","reference":"r"}', JSON, 400, "invalid_json"),
        ('{"reference":"é"}'.encode("latin-1"), JSON, 400, "invalid_json"),
        (b'{"reference":"\\ud800"}', JSON, 400, "invalid_json"),
        (b"[" * 5000, JSON, 422, "invalid_request"),
        (b"[]", JSON, 422, "invalid_request"),
        (b"null", JSON, 422, "invalid_request"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported_media_type"),
        (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b'{"reference":"' + b"x" * 70_000 + b'"}', JSON, 413, "body_too_large"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    running: Stack, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await running.request("POST", "/v1/payments", data=data, headers=headers, key=fresh())
    assert_problem(answer, status, code)


async def test_a_card_number_is_neither_echoed_nor_logged_nor_stored(running: Stack) -> None:
    number = "5555555555554444"
    for wrong in (body(source=number), body(capture=number), body(**{number: 1}), body(amount=number)):
        answer = await running.request("POST", "/v1/payments", json=wrong, key=fresh())
        assert answer.status == 422
        assert number.encode() not in answer.body
    for process in running.processes:
        assert number not in process.log.read_text()
    assert not await running.sql("SELECT 1 FROM payments WHERE source LIKE $1", f"%{number}%")


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "idempotency_key_missing"),
        ("", "idempotency_key_invalid"),
        ("x" * 256, "idempotency_key_invalid"),
        ("a b", "idempotency_key_invalid"),
        ("ключ", "idempotency_key_invalid"),
    ],
)
@pytest.mark.parametrize("path", ["", "/{id}/capture", "/{id}/void", "/{id}/refunds"])
async def test_every_command_needs_one_good_key(running: Stack, path: str, key: str | None, code: str) -> None:
    payment = "pay_01m81f965se1srvd1y9nsseadm"
    answer = await running.request("POST", "/v1/payments" + path.format(id=payment), json=body(), key=key)
    assert_problem(answer, 400, code)


ENDPOINTS = [
    ("POST", "/v1/payments"),
    ("POST", "/v1/payments/{id}/capture"),
    ("POST", "/v1/payments/{id}/void"),
    ("POST", "/v1/payments/{id}/refunds"),
    ("GET", "/v1/payments/{id}"),
    ("GET", "/v1/payments"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@pytest.mark.parametrize(
    "authorisation",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic lab_demo_merchant_key",
        "lab_demo_merchant_key",
        "Bearer \xe9",
    ],
)
async def test_nobody_gets_in_without_a_valid_api_key(
    running: Stack, method: str, path: str, authorisation: str | None
) -> None:
    merchant = {} if authorisation is None else {"Authorization": authorisation}
    path = path.format(id="pay_01m81f965se1srvd1y9nsseadm")
    answer = await running.request(method, path, json=body(), key=fresh(), merchant=merchant)
    assert_problem(answer, 401, "unauthorised")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_revoked_api_key_stops_working(running: Stack) -> None:
    key = fresh()
    digest = hashlib.sha256(key.encode()).digest()
    await running.sql(
        "INSERT INTO api_keys (key_sha256, merchant_id, revoked_at) VALUES ($1, 'mer_demo', now())", digest
    )
    answer = await running.request("GET", "/v1/payments", merchant={"Authorization": f"Bearer {key}"})
    assert_problem(answer, 401, "unauthorised")


@pytest.mark.parametrize(("method", "path"), [each for each in ENDPOINTS if "{id}" in each[1]])
@pytest.mark.parametrize(
    "identity", ["pay_01m81f965se1srvd1y9nsseadm", "nonsense", "evt_01m81f965se1srvd1y9nsseadm", "pay_", "pay_é", "%00"]
)
async def test_an_unknown_payment_is_not_found(running: Stack, method: str, path: str, identity: str) -> None:
    answer = await running.request(method, path.format(id=identity), key=fresh())
    assert_problem(answer, 404, "no_such_payment")


@pytest.mark.parametrize(("method", "path"), [each for each in ENDPOINTS if "{id}" in each[1]])
async def test_another_merchants_payment_is_not_found(running: Stack, method: str, path: str) -> None:
    mine = await running.pay(fresh(), capture="manual")
    path = path.format(id=mine.json["id"])
    assert_problem(await running.request(method, path, key=fresh(), merchant=OTHER_MERCHANT), 404, "no_such_payment")


async def test_another_merchants_payments_are_not_listed_and_its_keys_are_its_own(running: Stack) -> None:
    reference = fresh()
    mine = await running.pay(reference)
    theirs = await running.request(
        "POST", "/v1/payments", json=body(reference=reference), key=f"key-{reference}", merchant=OTHER_MERCHANT
    )
    assert theirs.status == 201
    assert "Idempotent-Replayed" not in theirs.headers
    listed = (await running.request("GET", "/v1/payments?limit=100", merchant=OTHER_MERCHANT)).json["data"]
    assert mine.json["id"] not in {each["id"] for each in listed}


@pytest.mark.parametrize("path", ["capture", "refunds"])
@pytest.mark.parametrize("wrong", [{"amount": 0}, {"amount": "1"}, {"amount": 1.5}, {"amount": -5}, {"money": 1}, [1]])
async def test_a_wrong_amount_is_refused_and_the_key_is_not_burnt(running: Stack, path: str, wrong: Any) -> None:
    made = await running.pay(fresh(), capture="manual" if path == "capture" else "automatic")
    key = fresh()
    where = f"/v1/payments/{made.json['id']}/{path}"
    assert_problem(await running.request("POST", where, json=wrong, key=key), 422, "invalid_request")
    too_much = await running.request("POST", where, json={"amount": 1001}, key=key)
    assert_problem(too_much, 422, "amount_too_large")
    assert too_much.json["limit"] == 1000
    assert (await running.request("POST", where, json={"amount": 1}, key=key)).status in (200, 201)


async def test_a_void_takes_no_parameters(running: Stack) -> None:
    made = await running.pay(fresh(), capture="manual")
    where = f"/v1/payments/{made.json['id']}/void"
    assert_problem(await running.request("POST", where, json={"amount": 1}, key=fresh()), 422, "invalid_request")
    assert (await running.request("POST", where, json={}, key=fresh())).json["status"] == "voided"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=", "cursor=", "cursor=x", "cursor=evt_01m81f965se1srvd1y9nsseadm", "page=2"])  # fmt: skip
async def test_a_wrong_query_is_refused(running: Stack, query: str) -> None:
    assert_problem(await running.request("GET", f"/v1/payments?{query}"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("DELETE", "/v1/payments", 405, "method_not_allowed"),
        ("PUT", "/v1/payments/pay_01m81f965se1srvd1y9nsseadm", 405, "method_not_allowed"),
        ("GET", "/v1/bank-events", 405, "method_not_allowed"),
        ("GET", "/v2/payments", 404, "no_such_route"),
    ],
)
async def test_what_does_not_exist_is_a_problem_too(
    running: Stack, method: str, path: str, status: int, code: str
) -> None:
    assert_problem(await running.request(method, path), status, code)


def signature(data: bytes, *, at: float | None = None, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + data, hashlib.sha256).hexdigest()
    return {**JSON, "Bank-Signature": f"t={stamp},v1={digest}"}


EVENT = b'{"id":"evt_1","type":"operation.completed","reference":"op_x","operation":{}}'


@pytest.mark.parametrize(
    "headers",
    [
        JSON,
        {**JSON, "Bank-Signature": ""},
        {**JSON, "Bank-Signature": "t=1,v1=00"},
        signature(EVENT, at=time.time() - 3600),
        signature(EVENT, at=time.time() + 3600),
        signature(EVENT, secret="guess"),
        signature(b"other"),
    ],
)
async def test_an_event_that_the_bank_did_not_sign_just_now_is_refused(running: Stack, headers: dict[str, str]) -> None:
    answer = await running.request("POST", "/v1/bank-events", data=EVENT, headers=headers, merchant={})
    assert_problem(answer, 401, "invalid_signature")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"{}", 422, "invalid_request"),
        (b'{"id":1,"type":"x","reference":null}', 422, "invalid_request"),
        (b'{"id":"a\\u0000","type":"x","reference":null}', 422, "invalid_request"),
        (b'{"id":"' + b"x" * 70_000 + b'"}', 413, "body_too_large"),
    ],
)
async def test_a_signed_event_that_makes_no_sense_is_refused(
    running: Stack, data: bytes, status: int, code: str
) -> None:
    answer = await running.request("POST", "/v1/bank-events", data=data, headers=signature(data), merchant={})
    assert_problem(answer, status, code)


@pytest.mark.parametrize("reference", ["null", '"op_x"', '"someone-elses"', '"op_01m81f965se1srvd1y9nsseadm"'])
async def test_an_event_about_what_we_do_not_know_is_accepted_and_changes_nothing(
    running: Stack, reference: str
) -> None:
    data = f'{{"id":"evt_{fresh()}","type":"operation.completed","reference":{reference},"more":1}}'.encode()
    for _ in range(2):
        answer = await running.request("POST", "/v1/bank-events", data=data, headers=signature(data), merchant={})
        assert answer.status == 204


async def test_openapi_describes_bodies_and_keys(running: Stack) -> None:
    document = (await running.request("GET", "/openapi.json")).json
    create = document["paths"]["/v1/payments"]["post"]
    schema = create["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) == {"amount", "currency", "source", "reference"}
    assert [each["name"] for each in create["parameters"]] == ["Idempotency-Key"]
    assert {"201", "202", "4XX", "503"} <= set(create["responses"])
    assert set(MERCHANT) == {"Authorization"}
