from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.integration.bank.conftest import Client

pytestmark = pytest.mark.integration


async def charges_under(record: asyncpg.Connection, reference: str) -> int:
    found: int = await record.fetchval("SELECT count(*) FROM charges WHERE reference = $1", reference)
    return found


async def test_a_charge_is_recorded_with_its_effects_and_the_request(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    status, answer = await client.charge(reference, source="tok_effects")
    assert (status, answer["status"], answer["amount"]) == (201, "captured", 1000)
    effects = await record.fetch("SELECT kind, amount FROM effects WHERE reference = $1 ORDER BY id", reference)
    assert [tuple(row) for row in effects] == [("authorise", 1000), ("capture", 1000)]
    request = await record.fetchrow(
        "SELECT path, source, outcome, behaviour FROM requests WHERE reference = $1", reference
    )
    assert request is not None
    assert tuple(request) == ("/v1/charges", "tok_effects", "captured", None)


async def test_the_same_reference_gives_the_same_answer_and_no_second_charge(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    first_status, first = await client.charge(reference)
    second_status, second = await client.charge(reference)
    assert (first_status, second_status) == (201, 200)
    assert first == second
    assert await charges_under(record, reference) == 1


async def test_two_hundred_concurrent_charges_under_one_reference_charge_once(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    answers = await asyncio.gather(*(client.charge(reference) for _ in range(200)))
    assert sorted(status for status, _ in answers) == [200] * 199 + [201]
    assert len({body["id"] for _, body in answers}) == 1
    assert await charges_under(record, reference) == 1


async def test_without_a_reference_every_request_charges(client: Client, record: asyncpg.Connection) -> None:
    answers = await asyncio.gather(*(client.charge(None, source="tok_unreferenced") for _ in range(20)))
    assert {status for status, _ in answers} == {201}
    assert await record.fetchval("SELECT count(*) FROM charges WHERE source = 'tok_unreferenced'") == 20


async def test_other_parameters_under_a_known_reference_are_a_conflict(client: Client, reference: str) -> None:
    await client.charge(reference)
    status, problem = await client.charge(reference, amount=1001)
    assert (status, problem["type"]) == (409, "urn:bank:reference_conflict")


async def test_a_cancelled_reference_is_never_charged(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    assert await client.call("POST", f"/v1/operations/{reference}/cancel") == (
        200,
        {"reference": reference, "status": "cancelled", "kind": "cancelled"},
    )
    status, problem = await client.charge(reference)
    assert (status, problem["type"]) == (409, "urn:bank:reference_cancelled")
    assert await charges_under(record, reference) == 0


async def test_cancelling_what_was_executed_shows_the_stored_answer(client: Client, reference: str) -> None:
    _, charged = await client.charge(reference)
    status, answer = await client.call("POST", f"/v1/operations/{reference}/cancel")
    assert (status, answer["status"], answer["operation"]) == (200, "executed", charged)


async def test_a_cancel_that_races_a_charge_has_one_winner_on_both_sides(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    outcomes = set()
    for number in range(40):
        name = f"{reference}-{number}"
        cancel = client.call("POST", f"/v1/operations/{name}/cancel")
        charge = client.charge(name)
        calls = (cancel, charge) if number % 2 else (charge, cancel)
        by_call = dict(
            zip(("cancel", "charge") if number % 2 else ("charge", "cancel"), await asyncio.gather(*calls), strict=True)
        )
        charged = await charges_under(record, name)
        assert by_call["charge"][0] == (201 if charged else 409)
        assert by_call["cancel"][1]["status"] == ("executed" if charged else "cancelled")
        outcomes.add(charged)
    assert outcomes <= {0, 1}


async def test_the_status_of_a_reference_is_the_stored_answer_or_not_found(client: Client, reference: str) -> None:
    status, problem = await client.call("GET", f"/v1/operations/{reference}")
    assert (status, problem["type"]) == (404, "urn:bank:not_found")
    _, charged = await client.charge(reference)
    assert await client.call("GET", f"/v1/operations/{reference}") == (200, charged)
    assert charged["kind"] == "charge"


async def test_a_partial_capture_and_refunds_up_to_it(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    _, charge = await client.charge(reference, capture=False)
    path = f"/v1/charges/{charge['id']}"
    status, captured = await client.call("POST", f"{path}/capture", {"reference": f"{reference}-c", "amount": 600})
    assert (status, captured["status"], captured["kind"]) == (201, "succeeded", "capture")
    _, too_much = await client.call("POST", f"{path}/refunds", {"reference": f"{reference}-r1", "amount": 601})
    assert (too_much["status"], too_much["decline_code"]) == ("declined", "amount_too_large")
    _, refunded = await client.call("POST", f"{path}/refunds", {"reference": f"{reference}-r2", "amount": 600})
    assert refunded["status"] == "succeeded"
    row = await record.fetchrow("SELECT status, captured, refunded FROM charges WHERE id = $1", charge["id"])
    assert row is not None
    assert tuple(row) == ("captured", 600, 600)


async def test_concurrent_refunds_never_exceed_the_capture(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    _, charge = await client.charge(reference)
    path = f"/v1/charges/{charge['id']}/refunds"
    bodies = [{"reference": f"{reference}-{n}", "amount": 400} for n in range(10)]
    answers = await asyncio.gather(*(client.call("POST", path, body) for body in bodies))
    assert sorted(body["status"] for _, body in answers) == ["declined"] * 8 + ["succeeded"] * 2
    assert await record.fetchval("SELECT refunded FROM charges WHERE id = $1", charge["id"]) == 800


async def test_an_operation_is_idempotent_by_its_reference(
    client: Client, record: asyncpg.Connection, reference: str
) -> None:
    _, charge = await client.charge(reference)
    path, body = f"/v1/charges/{charge['id']}/refunds", {"reference": f"{reference}-r", "amount": 100}
    answers = await asyncio.gather(*(client.call("POST", path, body) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    assert len({answer["id"] for _, answer in answers}) == 1
    assert await record.fetchval("SELECT refunded FROM charges WHERE id = $1", charge["id"]) == 100


async def test_a_void_releases_an_authorisation_and_nothing_else(client: Client, reference: str) -> None:
    _, charge = await client.charge(reference, capture=False)
    path = f"/v1/charges/{charge['id']}"
    _, voided = await client.call("POST", f"{path}/void", {"reference": f"{reference}-v"})
    assert (voided["status"], voided["amount"]) == ("succeeded", 1000)
    _, late = await client.call("POST", f"{path}/capture", {"reference": f"{reference}-c", "amount": 1000})
    assert (late["status"], late["decline_code"]) == ("declined", "charge_voided")


CHARGE = {"source": "tok_a", "amount": 1000, "currency": "EUR", "capture": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0}, {"amount": -1}, {"amount": "10"}, {"amount": 1.5}, {"amount": 10**13}, {"amount": None},
        {"currency": "eur"}, {"currency": "EURO"}, {"source": "4242424242424242"}, {"source": "tok_"},
        {"capture": "yes"}, {"reference": ""}, {"reference": "a b"}, {"reference": "ä"}, {"reference": "x" * 256},
        {"unknown": 1},
    ],
)  # fmt: skip
async def test_a_charge_of_another_shape_is_refused(client: Client, changes: dict[str, Any]) -> None:
    status, problem = await client.call("POST", "/v1/charges", CHARGE | changes)
    assert (status, problem["type"]) == (422, "urn:bank:invalid_request")


@pytest.mark.parametrize(
    "path", ["/v1/charges", "/v1/charges/ch_x/capture", "/v1/charges/ch_x/void", "/v1/charges/ch_x/refunds"]
)
async def test_every_body_is_read_strictly(client: Client, path: str) -> None:
    json_type = {"Content-Type": "application/json"}
    assert (await client.call("POST", path, headers=json_type, data=b"{"))[0] == 400
    assert (await client.call("POST", path, headers=json_type, data=b"[]"))[0] == 422
    assert (await client.call("POST", path, headers=json_type, data=b'{"amount": true}'))[0] == 422
    assert (await client.call("POST", path, headers=json_type, data=b"\xff"))[0] == 400
    assert (await client.call("POST", path, headers=json_type, data=b" " * 100_000))[0] == 413
    assert (await client.call("POST", path, headers={"Content-Type": "text/plain"}, data=b"{}"))[0] == 415
    latin = {"Content-Type": "application/json; charset=latin-1"}
    assert (await client.call("POST", path, headers=latin, data=b"{}"))[0] == 415


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/charges"), ("POST", "/v1/charges/ch_x/capture"), ("POST", "/v1/charges/ch_x/void"),
        ("POST", "/v1/charges/ch_x/refunds"), ("GET", "/v1/operations/x"), ("POST", "/v1/operations/x/cancel"),
        ("GET", "/v1/settlements/2026-01-01.csv"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", "Basic a-key-of-the-test", "Bearer ä"])
async def test_every_call_needs_the_right_key(client: Client, method: str, path: str, key: str) -> None:
    status, problem = await client.call(method, path, headers={"Authorization": key})
    assert (status, problem["type"]) == (401, "urn:bank:unauthorised")


async def test_operations_on_an_unknown_charge_are_not_found_and_do_not_burn_the_reference(
    client: Client, reference: str
) -> None:
    status, problem = await client.call("POST", "/v1/charges/ch_x/capture", {"amount": 1, "reference": reference})
    assert (status, problem["type"]) == (404, "urn:bank:not_found")
    assert (await client.charge(reference))[0] == 201


async def test_a_reference_to_cancel_must_be_visible_ascii(client: Client) -> None:
    assert (await client.call("POST", "/v1/operations/a%20b/cancel"))[0] == 422


@pytest.mark.parametrize("name", ["2026-13-01.csv", "yesterday.csv", "x"])
async def test_a_settlement_of_no_day_is_not_found(client: Client, name: str) -> None:
    assert (await client.call("GET", f"/v1/settlements/{name}"))[0] == 404
