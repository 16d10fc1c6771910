"""The same request again, at once, in another shape, too late, and a thousand times."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from tests.integration.payments.stack import Answer, Stack, client, until

pytestmark = pytest.mark.integration


def fresh() -> str:
    return uuid4().hex


async def test_a_replay_is_byte_equal_and_says_so(running: Stack) -> None:
    reference = fresh()
    first = await running.pay(reference)
    again = await running.pay(reference)
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Location"] == first.headers["Location"] == f"/v1/payments/{first.json['id']}"
    assert await running.captures(reference) == 1


async def test_order_and_white_space_of_the_body_do_not_matter(running: Stack) -> None:
    r = fresh()
    one = f'{{"amount":1000,"currency":"EUR","source":"tok_{r}","reference":"{r}"}}'.encode()
    two = f'{{ "reference": "{r}",\n "source":"tok_{r}", "currency":"\\u0045UR", "amount": 1000 }}'.encode()
    headers = {"Content-Type": "application/json"}
    first = await running.request("POST", "/v1/payments", data=one, key=r, headers=headers)
    again = await running.request("POST", "/v1/payments", data=two, key=r, headers=headers)
    assert again.body == first.body


async def test_another_body_or_endpoint_under_the_same_key_is_refused(running: Stack) -> None:
    reference = fresh()
    first = await running.pay(reference)
    other = await running.pay(reference, amount=1001)
    assert (other.status, other.json["type"]) == (422, "urn:lab:idempotency_key_reused")
    where = f"/v1/payments/{first.json['id']}/refunds"
    refund = await running.request("POST", where, key=f"key-{reference}")
    assert (refund.status, refund.json["type"]) == (422, "urn:lab:idempotency_key_reused")


async def test_quotes_belong_to_the_key(running: Stack) -> None:
    key = fresh()
    first = await running.pay(fresh(), key=key)
    second = await running.pay(fresh(), key=f'"{key}"')
    assert (first.status, second.status) == (201, 201)
    assert first.json["id"] != second.json["id"]


async def test_a_decline_is_replayed_and_frees_the_reference(running: Stack) -> None:
    reference = fresh()
    await running.behave("declines", share=1)
    try:
        declined = await running.pay(reference, key=f"one-{reference}")
    finally:
        await running.behave_well("declines")
    again = await running.pay(reference, key=f"one-{reference}")
    assert (declined.status, declined.json["type"]) == (402, "urn:lab:card_declined")
    assert (again.status, again.body) == (402, declined.body)
    assert again.headers["Content-Type"] == "application/problem+json"
    assert (await running.pay(reference, key=f"two-{reference}")).status == 201
    assert await running.captures(reference) == 1


async def test_a_reference_is_used_once_and_the_refusal_names_the_payment(running: Stack) -> None:
    reference = fresh()
    first = await running.pay(reference)
    second = await running.pay(reference, key=fresh())
    assert (second.status, second.json["type"]) == (409, "urn:lab:reference_in_use")
    assert second.json["payment"] == first.json["id"]


async def test_an_expired_key_may_be_used_again_but_not_for_a_second_charge(running: Stack) -> None:
    reference = fresh()
    await running.pay(reference)
    await running.sql("UPDATE idempotency_keys SET expires_at = now() WHERE key = $1", f"key-{reference}")
    again = await running.pay(reference)
    assert (again.status, again.json["type"]) == (409, "urn:lab:reference_in_use")
    assert await running.captures(reference) == 1
    other = fresh()
    assert (await running.pay(other, key=f"key-{reference}")).status == 201
    assert (await running.pay(other, key=f"key-{reference}")).headers["Idempotent-Replayed"] == "true"


@pytest.mark.slow
async def test_a_thousand_requests_at_once_with_one_key_have_one_effect(running: Stack) -> None:
    reference = fresh()
    async with client() as session:
        answers = await asyncio.gather(*(running.pay(reference, session=session) for _ in range(1000)))
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) <= {201, 409, 503}

    async def answered() -> Answer | None:
        answer = await running.pay(reference)
        return answer if answer.status == 201 else None

    # The one that got through may have waited too long for a connection to write its answer down: the resolver does then.
    last = await until(answered, what="the answer that stays")
    made = [answer for answer in (*answers, last) if answer.status == 201]
    assert sum("Idempotent-Replayed" not in answer.headers for answer in made) <= 1
    assert {answer.body for answer in made} == {last.body}
    assert {answer.json["type"] for answer in answers if answer.status == 409} <= {"urn:lab:request_in_flight"}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status in (409, 503))
    assert await running.captures(reference) == 1
    assert len(await running.sql("SELECT 1 FROM payments WHERE reference = $1", reference)) == 1


async def test_many_keys_at_once_for_one_reference_have_one_effect(running: Stack) -> None:
    reference = fresh()
    answers = await asyncio.gather(*(running.pay(reference, key=fresh()) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 49}
    assert await running.captures(reference) == 1


async def test_refunds_at_once_never_exceed_what_was_captured(running: Stack) -> None:
    reference = fresh()
    made = await running.pay(reference)
    where = f"/v1/payments/{made.json['id']}/refunds"

    async def refund() -> int:
        return (await running.request("POST", where, json={"amount": 300}, key=fresh())).status

    done = 0
    while done < 3:
        statuses = await asyncio.gather(*(refund() for _ in range(20)))
        assert set(statuses) <= {201, 409, 422}
        done += statuses.count(201)
    assert done == 3
    assert (await running.request("POST", where, json={"amount": 300}, key=fresh())).status == 422
    (charge,) = await running.sql("SELECT * FROM charges WHERE source = $1", f"tok_{reference}", database="bank")
    assert charge["refunded"] == 900
    assert (await running.request("GET", f"/v1/payments/{made.json['id']}")).json["refunded_amount"] == 900


async def test_captures_and_voids_at_once_leave_one_of_them(running: Stack) -> None:
    reference = fresh()
    made = await running.pay(reference, capture="manual")
    where = f"/v1/payments/{made.json['id']}"
    calls = [running.request("POST", f"{where}/{what}", key=fresh()) for what in ("capture", "void") * 10]
    answers = await asyncio.gather(*calls)
    assert Counter(answer.status for answer in answers) == {200: 1, 409: 19}
    effects = await running.sql(
        "SELECT kind FROM effects WHERE charge_id = (SELECT id FROM charges WHERE source = $1) AND kind <> 'authorise'",
        f"tok_{reference}",
        database="bank",
    )
    assert len(effects) == 1


async def test_a_replayed_capture_is_answered_although_the_state_no_longer_allows_one(running: Stack) -> None:
    made = await running.pay(fresh(), capture="manual")
    where, key = f"/v1/payments/{made.json['id']}/capture", fresh()
    first = await running.request("POST", where, json={"amount": 400}, key=key)
    again = await running.request("POST", where, json={"amount": 400}, key=key)
    assert first.json["captured_amount"] == 400
    assert again.body == first.body
    other = await running.request("POST", where, json={"amount": 400}, key=fresh())
    assert (other.status, other.json["type"]) == (409, "urn:lab:illegal_state")


async def test_pages_hold_every_payment_once_newest_first(running: Stack) -> None:
    made = [(await running.pay(fresh())).json["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while len(seen) < 5:
        page = (await running.request("GET", f"/v1/payments?limit=2{cursor}")).json
        seen += [each["id"] for each in page["data"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen[:5] == made[::-1]


async def test_an_unknown_outcome_is_a_202_whose_replay_is_byte_equal_while_get_tells_the_truth(running: Stack) -> None:
    reference = fresh()
    await running.behave("error_after", share=1)
    try:
        first = await running.pay(reference)
    finally:
        await running.behave_well("error_after")
    assert (first.status, first.json["status"]) == (202, "processing")

    async def captured() -> bool:
        return bool((await running.request("GET", first.headers["Location"])).json["status"] == "captured")

    await until(captured, what="certainty")
    again = await running.pay(reference)
    assert (again.status, again.body, again.headers["Idempotent-Replayed"]) == (202, first.body, "true")
    assert await running.captures(reference) == 1


async def test_an_unknown_capture_void_or_refund_is_processing_until_it_is_known(running: Stack) -> None:
    for what, status in (("capture", "captured"), ("void", "voided"), ("refunds", "refunded")):
        made = await running.pay(fresh(), capture="automatic" if what == "refunds" else "manual")
        await running.behave("error_after", share=1)
        try:
            answer = await running.request("POST", f"/v1/payments/{made.json['id']}/{what}", key=fresh())
        finally:
            await running.behave_well("error_after")
        assert (answer.status, answer.json["status"]) == (202, "processing")
        assert answer.json["pending_operation"] == what.removesuffix("s")

        async def known(made_id: str = made.json["id"], status: str = status) -> bool:
            return bool((await running.request("GET", f"/v1/payments/{made_id}")).json["status"] == status)

        await until(known, what=f"a known {what}")
