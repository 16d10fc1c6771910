"""What the till is told when all is well, and when the request is bad."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import msgspec
import pytest

from services.kit import ids
from tests.integration.checkout.stack import CheckoutStack

pytestmark = pytest.mark.integration


def fresh() -> str:
    return secrets.token_hex(6)


async def test_a_checkout_is_paid_and_can_be_asked_for(running: CheckoutStack) -> None:
    reference = fresh()
    paid = await running.check_out(reference)
    assert paid.status == 201
    assert paid.json["status"] == "paid"
    assert paid.json["id"].startswith("chk_")
    assert paid.json["payment"].startswith("pay_")
    assert paid.json["id"][4:] == paid.json["payment"][4:]
    assert paid.headers["Location"] == f"/v1/checkouts/{paid.json['id']}"
    found = await running.till("GET", paid.headers["Location"])
    assert (found.status, found.json) == (200, paid.json)
    assert await running.captures(reference) == 1


async def test_the_same_key_gets_the_same_answer_and_one_charge(running: CheckoutStack) -> None:
    reference = fresh()
    first = await running.check_out(reference)
    again = await running.check_out(reference)
    assert (again.status, again.json) == (201, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert await running.captures(reference) == 1


async def test_ten_at_once_with_one_key_are_one_charge(running: CheckoutStack) -> None:
    reference = fresh()
    answers = await asyncio.gather(*(running.check_out(reference) for _ in range(10)))
    assert {answer.status for answer in answers} <= {201, 409}
    assert 201 in {answer.status for answer in answers}
    assert await running.captures(reference) == 1


async def test_a_key_that_comes_with_another_request_is_refused(running: CheckoutStack) -> None:
    reference = fresh()
    await running.check_out(reference)
    other = await running.check_out(reference, amount=999)
    assert (other.status, other.json["type"]) == (422, "urn:lab:idempotency_key_reused")


async def test_a_reference_that_is_taken_names_the_checkout(running: CheckoutStack) -> None:
    reference = fresh()
    first = await running.check_out(reference)
    other = await running.check_out(reference, key=fresh())
    assert (other.status, other.json["type"]) == (409, "urn:lab:reference_in_use")
    assert other.json["checkout"] == first.json["id"]


async def test_a_declined_card_is_a_402_that_stays_one(stack: CheckoutStack) -> None:
    await stack.start("bank")
    await asyncio.gather(stack.start("api"), stack.start("checkout"))
    await stack.behave("declines", share=1.0)
    declined = await stack.check_out("declined")
    assert (declined.status, declined.json["type"]) == (402, "urn:lab:card_declined")
    assert declined.json["checkout"].startswith("chk_")
    assert declined.json["decline_code"]
    assert (await stack.check_out("declined")).status == 402
    found = await stack.till("GET", f"/v1/checkouts/{declined.json['checkout']}")
    assert (found.status, found.json["status"]) == (200, "failed")


GOOD = {"amount": 1000, "currency": "EUR", "source": "tok_x", "reference": "bad-input"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"sku": ""}, 422, "invalid_request"),
        ({"sku": 7}, 422, "invalid_request"),
        ({"sku": "x" * 65}, 422, "invalid_request"),
        ({"sku": "a b"}, 422, "invalid_request"),
        ({"sku": "a\x00"}, 422, "invalid_request"),
        ({"sku": "A-1", "quantity": 0}, 422, "invalid_request"),
        ({"sku": "A-1", "quantity": 10_001}, 422, "invalid_request"),
        ({"sku": "A-1", "quantity": 1.5}, 422, "invalid_request"),
        ({"sku": "A-1", "quantity": "2"}, 422, "invalid_request"),
        ({"amount": 0}, 422, "invalid_request"),
        ({"amount": -5}, 422, "invalid_request"),
        ({"amount": 10**13}, 422, "invalid_request"),
        ({"amount": 1.5}, 422, "invalid_request"),
        ({"amount": "1000"}, 422, "invalid_request"),
        ({"amount": None}, 422, "invalid_request"),
        ({"amount": True}, 422, "invalid_request"),
        ({"currency": "eur"}, 422, "invalid_request"),
        ({"currency": "EURO"}, 422, "invalid_request"),
        ({"currency": "XXX"}, 422, "unknown_currency"),
        ({"source": "4242424242424242"}, 422, "invalid_request"),
        ({"source": "tok_4242424242424242"}, 422, "card_number_refused"),
        ({"source": "tok_"}, 422, "invalid_request"),
        ({"source": "tok_a b"}, 422, "invalid_request"),
        ({"source": "tok_" + "x" * 300}, 422, "invalid_request"),
        ({"reference": ""}, 422, "invalid_request"),
        ({"reference": "x" * 201}, 422, "invalid_request"),
        ({"reference": "a\x00b"}, 422, "invalid_request"),
        ({"surprise": 1}, 422, "invalid_request"),
        ({"capture": "manual"}, 422, "invalid_request"),
    ],
)
async def test_a_bad_field_is_a_problem(running: CheckoutStack, change: dict[str, Any], status: int, code: str) -> None:
    answer = await running.till("POST", "/v1/checkouts", json=GOOD | change, key=fresh())
    assert (answer.status, answer.json["type"]) == (status, f"urn:lab:{code}")
    assert b"4242" not in answer.body


@pytest.mark.parametrize("field", sorted(GOOD))
async def test_a_missing_field_is_a_problem(running: CheckoutStack, field: str) -> None:
    body = {name: value for name, value in GOOD.items() if name != field}
    assert (await running.till("POST", "/v1/checkouts", json=body, key=fresh())).status == 422


@pytest.mark.parametrize(
    ("data", "media_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"amount": ' + b"[" * 10_000, "application/json", 422),
        (b"[]", "application/json", 422),
        (msgspec.json.encode(GOOD), "text/plain", 415),
        (msgspec.json.encode(GOOD), "application/json; charset=latin-1", 415),
        (b'{"reference": "' + b"x" * 70_000 + b'"}', "application/json", 413),
    ],
)
async def test_a_bad_body_is_a_problem(running: CheckoutStack, data: bytes, media_type: str, status: int) -> None:
    headers = {"Content-Type": media_type}
    answer = await running.till("POST", "/v1/checkouts", data=data, key=fresh(), headers=headers)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("key", [None, "", "a b", "x" * 256, "ü"])
async def test_without_a_good_key_nothing_is_asked_for(running: CheckoutStack, key: str | None) -> None:
    answer = await running.till("POST", "/v1/checkouts", json=GOOD, key=key)
    assert answer.status == 400
    assert answer.json["type"] in ("urn:lab:idempotency_key_missing", "urn:lab:idempotency_key_invalid")


NO_CHECKOUT = "chk_01m81xzqh7e728d18agta0n0g5"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic lab_demo_merchant_key", "Bearer a b"])
async def test_a_stranger_is_a_401(running: CheckoutStack, header: str) -> None:
    for method, path, body in (("POST", "/v1/checkouts", GOOD), ("GET", f"/v1/checkouts/{NO_CHECKOUT}", None)):
        answer = await running.till(method, path, json=body, key=fresh(), merchant={"Authorization": header})
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("identity", ["chk_", "pay_01h455vb4pex5vsknk084sn02q", "chk_zzz", "1", "%00", NO_CHECKOUT])
async def test_what_is_no_checkout_is_a_404(running: CheckoutStack, identity: str) -> None:
    answer = await running.till("GET", f"/v1/checkouts/{identity}")
    assert (answer.status, answer.json["type"]) == (404, "urn:lab:no_such_checkout")


async def test_another_merchant_s_checkout_is_a_404(running: CheckoutStack) -> None:
    paid = await running.check_out(fresh())
    other = {"Authorization": "Bearer lab_other_merchant_key"}
    assert (await running.till("GET", paid.headers["Location"], merchant=other)).status == 404


@pytest.mark.parametrize(("timeout", "status"), [("soon", 400), ("1.5", 400), ("0", 504), ("-1", 504)])
async def test_a_bad_deadline_is_a_problem(running: CheckoutStack, timeout: str, status: int) -> None:
    answer = await running.till(
        "POST", "/v1/checkouts", json=GOOD, key=fresh(), headers={"Request-Timeout-Ms": timeout}
    )
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_huge_deadline_is_shortened(running: CheckoutStack) -> None:
    answer = await running.check_out(fresh(), headers={"Request-Timeout-Ms": "9" * 400})
    assert answer.status == 201


async def test_one_trace_goes_through_all_hops(running: CheckoutStack) -> None:
    trace = secrets.token_hex(16)
    reference = fresh()
    answer = await running.check_out(reference, headers={"traceparent": f"00-{trace}-{'1' * 16}-00"})
    assert answer.status == 201
    rows = await running.sql(
        "SELECT traceparent FROM outbox WHERE payment_id = $1", ids.decode("pay", answer.json["payment"])
    )
    assert [row["traceparent"][3:35] for row in rows] == [trace]
