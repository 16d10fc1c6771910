"""Prices and stocks of a feed: one commit, an outcome for each, and each kind of bad input."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from services.catalog.domain import LARGEST_STOCK, MOST_OFFERS
from tests.integration.catalog.stack import Answer, Stack
from tests.integration.catalog.test_products import JSON, assert_problem, fresh, variants

pytestmark = pytest.mark.integration


async def offer(running: Stack, *offers: dict[str, Any], **headers: str) -> Answer:
    return await running.request("POST", "/v1/offers", json={"offers": list(offers)}, headers=headers)


def outcomes(answer: Answer) -> list[tuple[str, int | None]]:
    assert answer.status == 200, answer.body
    return [(each["outcome"], each["version"]) for each in answer.json["offers"]]


async def test_each_offer_has_an_outcome_of_its_own(running: Stack) -> None:
    one, two, many = fresh(), fresh(), fresh()
    await running.create(one, price=100, stock=1)
    known = await running.create(two, price=100, stock=1)
    await running.create(many, variants=variants(many, 1, 2))
    done = await offer(
        running,
        {"sku": one, "price": 250, "stock": 9},
        {"sku": fresh(), "price": 1},
        {"sku": two, "price": 100},
        {"sku": many, "price": 700, "stock": 5},
        {"sku": f"{many}-1", "stock": 40},
        {"sku": f"{many}-0", "stock": LARGEST_STOCK},
    )
    assert outcomes(done) == [
        ("changed", 2), ("no_such_sku", None), ("unchanged", 1), ("has_variants", 2), ("changed", 2), ("too_much_stock", 2),
    ]  # fmt: skip
    assert [each["sku"] for each in done.json["offers"]][:1] == [one]
    assert done.json["offers"][1]["id"] is None
    assert done.json["offers"][2]["id"] == known
    (first,) = (await running.request("GET", f"/v1/products?sku={one}")).json["data"]
    assert (first["price"], first["stock"]) == (250, 9)
    (last,) = (await running.request("GET", f"/v1/products?sku={many}")).json["data"]
    assert (last["price"], last["stock"], [each["stock"] for each in last["variants"]]) == (100, 41, [1, 40])


async def test_several_offers_of_one_product_move_its_version_on_once(running: Stack) -> None:
    sku = fresh()
    product = await running.create(sku, variants=variants(sku, 1, 1))
    wanted = [{"sku": sku, "price": 900}, {"sku": f"{sku}-0", "price": 901}, {"sku": f"{sku}-1", "stock": 7}]
    assert outcomes(await offer(running, *wanted)) == [("changed", 2)] * 3
    view = (await running.request("GET", f"/v1/products/{product}")).json
    assert (view["price"], view["stock"]) == (900, 8)
    assert [(each["price"], each["stock"]) for each in view["variants"]] == [(901, 1), (101, 7)]


async def test_sent_twice_it_changes_nothing_the_second_time(running: Stack) -> None:
    sku = fresh()
    await running.create(sku, price=100)
    wanted = {"sku": sku, "price": 300, "stock": 4}
    assert outcomes(await offer(running, wanted)) == [("changed", 2)]
    before = await running.sql("SELECT xmin::text FROM products WHERE sku = $1", sku)
    assert outcomes(await offer(running, wanted)) == [("unchanged", 2)]
    assert await running.sql("SELECT xmin::text FROM products WHERE sku = $1", sku) == before


async def test_feeds_with_common_products_wait_for_each_other_and_never_in_a_circle(running: Stack) -> None:
    skus = [fresh() for _ in range(40)]
    await asyncio.gather(*(running.create(sku) for sku in skus))

    async def feed(number: int) -> Answer:
        order = skus if number % 2 else skus[::-1]
        return await offer(running, *({"sku": sku, "price": 1000 + number, "stock": number} for sku in order))

    answers = await asyncio.gather(*(feed(number) for number in range(12)))
    assert all(outcome == "changed" for answer in answers for outcome, _ in outcomes(answer))
    rows = await running.sql("SELECT price, stock, version FROM products WHERE sku = ANY($1::text[])", skus)
    assert {(row["price"] - 1000 - row["stock"], row["version"]) for row in rows} == {(0, 13)}
    assert len({row["price"] for row in rows}) == 1, "a feed is one commit"


async def test_the_trace_of_the_last_change_is_in_the_row_only_while_spans_are_kept(running: Stack) -> None:
    sku = fresh()
    await running.create(sku)
    trace = f"00-{uuid4().hex}-00f067aa0ba902b7-01"
    assert outcomes(await offer(running, {"sku": sku, "price": 7}, traceparent=trace)) == [("changed", 2)]
    (row,) = await running.sql("SELECT traceparent FROM products WHERE sku = $1", sku)
    assert row["traceparent"] is None, "nobody listens here; tests/integration/tracing looks at the other case"


S = {"sku": "S-1"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"offers": []}, "invalid_request"),
        ({"offers": {}}, "invalid_request"),
        ({"offers": [1]}, "invalid_request"),
        ({"offers": [{"price": 1}]}, "invalid_request"),
        ({"offers": [S | {"sku": "a b", "price": 1}]}, "invalid_request"),
        ({"offers": [S | {"price": 0}]}, "invalid_request"),
        ({"offers": [S | {"price": "1"}]}, "invalid_request"),
        ({"offers": [S | {"price": None}]}, "invalid_request"),
        ({"offers": [S | {"stock": -1}]}, "invalid_request"),
        ({"offers": [S | {"stock": 1.5}]}, "invalid_request"),
        ({"offers": [S | {"price": 1, "title": "x"}]}, "invalid_request"),
        ({"offers": [{"sku": f"S-{n}", "stock": 1} for n in range(MOST_OFFERS + 1)]}, "invalid_request"),
        ({"offers": [S]}, "invalid_offers"),
        ({"offers": [S | {"price": 1}, S | {"stock": 1}]}, "invalid_offers"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_offers_that_make_no_sense_are_refused_as_a_whole(running: Stack, body: Any, code: str) -> None:
    assert_problem(await running.request("POST", "/v1/offers", json=body), 422, code)


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_json"),
        (b"\xff\xfe", JSON, 400, "invalid_json"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"x" * 100_000, JSON, 413, "body_too_large"),
    ],
)
async def test_garbage_is_refused(running: Stack, data: bytes, headers: dict[str, str], status: int, code: str) -> None:
    assert_problem(await running.request("POST", "/v1/offers", data=data, headers=headers), status, code)


async def test_the_largest_request_fits(running: Stack) -> None:
    wanted = [{"sku": f"{n:064}", "price": 100_000_000, "stock": LARGEST_STOCK} for n in range(MOST_OFFERS)]
    assert {outcome for outcome, _ in outcomes(await offer(running, *wanted))} == {"no_such_sku"}


async def test_without_a_key_nothing_is_taken(running: Stack) -> None:
    answer = await running.request("POST", "/v1/offers", json={"offers": [S | {"price": 1}]}, key={})
    assert_problem(answer, 401, "unauthorised")
