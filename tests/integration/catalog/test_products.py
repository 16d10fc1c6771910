"""Products, brands and categories over HTTP: what is promised, and each kind of bad input."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from services.catalog.domain import PREFIX
from services.kit import ids
from tests.integration.catalog.stack import Answer, Stack, body

pytestmark = pytest.mark.integration

JSON = {"Content-Type": "application/json"}


def fresh() -> str:
    return f"S-{uuid4().hex[:16]}"


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["type"]) == (status, f"urn:lab:{code}"), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"


def variants(sku: str, *stocks: int) -> list[dict[str, Any]]:
    return [{"sku": f"{sku}-{n}", "price": 100 + n, "stock": stock} for n, stock in enumerate(stocks)]


async def rows(stack: Stack, sku: str) -> int:
    (row,) = await stack.sql("SELECT count(*) AS n FROM products WHERE sku = $1", sku)
    return int(row["n"])


async def test_a_product_is_made_read_changed_and_ended(running: Stack) -> None:
    sku = fresh()
    whole = body(sku, description="Long\ntext", model="911 997", attributes={"colour": "red"}, popularity=7, stock=3)
    made = await running.request("POST", "/v1/products", json=whole)
    assert (made.status, made.headers["ETag"]) == (201, '"1"')
    read = await running.request("GET", made.headers["Location"])
    assert (read.status, read.json) == (200, made.json)
    assert {name: read.json[name] for name in whole} == whole

    replaced = body(sku + "x", title="Another", variants=variants(sku, 2, 5))
    put = await running.request("PUT", made.headers["Location"], json=replaced, headers={"If-Match": '"1"'})
    assert (put.status, put.headers["ETag"], put.json["stock"], put.json["popularity"]) == (200, '"2"', 7, 0)
    assert put.json["created_at"] == made.json["created_at"]

    patched = await running.request("PATCH", made.headers["Location"], json={"variants": variants(sku, 2, 9)})
    assert (patched.json["stock"], patched.json["version"]) == (11, 3)
    assert (await running.request("GET", f"/v1/products?sku={sku}-1")).json["data"][0]["id"] == made.json["id"]

    assert (await running.request("DELETE", made.headers["Location"], headers={"If-Match": '"3"'})).status == 204
    assert_problem(await running.request("GET", made.headers["Location"]), 404, "no_such_product")
    assert not await running.sql("SELECT 1 FROM variants WHERE sku LIKE $1", f"{sku}%")
    assert await running.create(sku) != made.json["id"], "its SKU is free again"


async def test_what_changes_nothing_moves_no_version_and_writes_no_row(running: Stack) -> None:
    product = await running.create(fresh(), price=250)
    before = (await running.sql("SELECT xmin::text FROM products WHERE id = $1", ids.decode(PREFIX, product)))[0]
    again = await running.request("PUT", f"/v1/products/{product}/price", json={"price": 250})
    assert again.json["version"] == 1
    assert (await running.sql("SELECT xmin::text FROM products WHERE id = $1", ids.decode(PREFIX, product)))[
        0
    ] == before


async def test_stock_price_and_popularity_have_small_endpoints(running: Stack) -> None:
    product = await running.create(fresh())
    for version, (name, value) in enumerate([("stock", 9), ("price", 999), ("popularity", 12)], 2):
        answer = await running.request("PUT", f"/v1/products/{product}/{name}", json={name: value})
        assert (answer.status, answer.json[name], answer.json["version"]) == (200, value, version)


async def test_a_variant_s_stock_and_price_are_its_own_and_the_sum_is_the_product_s(running: Stack) -> None:
    sku = fresh()
    path = f"/v1/products/{await running.create(sku, variants=variants(sku, 1, 2))}"
    answer = await running.request("PUT", f"{path}/variants/{sku}-1/stock", json={"stock": 40})
    assert (answer.status, answer.json["stock"]) == (200, 41)
    answer = await running.request("PUT", f"{path}/variants/{sku}-0/price", json={"price": 5})
    assert [one["price"] for one in answer.json["variants"]] == [5, 101]
    assert_problem(await running.request("PUT", f"{path}/stock", json={"stock": 1}), 409, "has_variants")
    assert_problem(
        await running.request("PUT", f"{path}/variants/none/stock", json={"stock": 1}), 404, "no_such_variant"
    )
    assert_problem(
        await running.request("PUT", f"{path}/variants/a%00b/stock", json={"stock": 1}), 404, "no_such_variant"
    )


async def test_changes_at_once_are_all_kept(running: Stack) -> None:
    sku = fresh()
    path = f"/v1/products/{await running.create(sku, variants=variants(sku, *([0] * 10)))}"
    answers = await asyncio.gather(
        *(running.request("PUT", f"{path}/variants/{sku}-{n}/stock", json={"stock": n + 1}) for n in range(10))
    )
    assert {answer.status for answer in answers} == {200}
    last = (await running.request("GET", path)).json
    assert (last["stock"], last["version"]) == (55, 11)


async def test_a_product_is_changed_only_in_the_version_that_was_read(running: Stack) -> None:
    path = f"/v1/products/{await running.create(fresh())}"
    answers = await asyncio.gather(
        *(running.request("PATCH", path, json={"price": 200 + n}, headers={"If-Match": '"1"'}) for n in range(5))
    )
    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412, 412]
    for garbage in ("2", '"x"', 'W/"2"', '""', '"99999999999999999999"'):
        stale = await running.request("DELETE", path, headers={"If-Match": garbage})
        assert_problem(stale, 412, "version_mismatch")
    assert (await running.request("PATCH", path, json={"price": 1}, headers={"If-Match": "*"})).status == 200


async def test_the_same_key_and_request_get_the_first_answer_again(running: Stack) -> None:
    sku, key = fresh(), {"Idempotency-Key": uuid4().hex}
    first = await running.request("POST", "/v1/products", json=body(sku), headers=key)
    await running.request("PATCH", first.headers["Location"], json={"price": 5})
    again = await running.request("POST", "/v1/products", json=dict(reversed(body(sku).items())), headers=key)
    assert (again.status, again.body, again.headers["Idempotent-Replayed"]) == (201, first.body, "true")
    other = await running.request("POST", "/v1/products", json=body(fresh()), headers=key)
    assert_problem(other, 422, "idempotency_key_reused")


async def test_twenty_at_once_under_one_key_make_one_product(running: Stack) -> None:
    sku, key = fresh(), {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(
        *(running.request("POST", "/v1/products", json=body(sku), headers=key) for _ in range(20))
    )
    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert await rows(running, sku) == 1


async def test_a_refusal_uses_up_no_key(running: Stack) -> None:
    sku, key = fresh(), {"Idempotency-Key": uuid4().hex}
    refused = await running.request("POST", "/v1/products", json=body(sku, brand_id=999), headers=key)
    assert_problem(refused, 422, "unknown_reference")
    assert (await running.request("POST", "/v1/products", json=body(sku), headers=key)).status == 201


async def test_pages_give_each_product_once_while_others_are_made(running: Stack) -> None:
    made = {await running.create(fresh()) for _ in range(5)}
    seen: list[str] = []
    path = "/v1/products?limit=2"
    while path:
        page = (await running.request("GET", path)).json
        seen += [each["id"] for each in page["data"]]
        await running.create(fresh())
        path = page["next_cursor"] and f"/v1/products?limit=2&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen))
    assert made <= set(seen)


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"sku": ...}, 422, "invalid_request"),
    ({"sku": "a b"}, 422, "invalid_request"),
    ({"title": "a\u0000b"}, 422, "invalid_request"),
    ({"title": "x" * 301}, 422, "invalid_request"),
    ({"language": "xx"}, 422, "invalid_request"),
    ({"price": "1"}, 422, "invalid_request"),
    ({"price": 0}, 422, "invalid_request"),
    ({"stock": 1.5}, 422, "invalid_request"),
    ({"attributes": {"colour": 1}}, 422, "invalid_request"),
    ({"created_at": "2026-01-01T00:00:00"}, 422, "invalid_request"),
    ({"colour": "red"}, 422, "invalid_request"),
    ({"brand_id": 999_999}, 422, "unknown_reference"),
    ({"category_id": 999_999}, 422, "unknown_reference"),
    ({"variants": [{"sku": "v", "price": 1}, {"sku": "v", "price": 1}]}, 422, "invalid_product"),
    ({"variants": [{"sku": "v", "price": 1}], "stock": 3}, 422, "invalid_product"),
]


@pytest.mark.parametrize(("changes", "status", "code"), WRONG, ids=[str(changes)[:50] for changes, _, _ in WRONG])
async def test_a_product_that_makes_no_sense_is_refused(
    running: Stack, changes: dict[str, Any], status: int, code: str
) -> None:
    sku = fresh()
    assert_problem(await running.request("POST", "/v1/products", json=body(sku, **changes)), status, code)
    product = await running.create(sku)
    put = await running.request("PUT", f"/v1/products/{product}", json=body(sku, **changes))
    assert_problem(put, status, code)
    assert (await running.request("GET", f"/v1/products/{product}")).json["version"] == 1


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_json"),
        (b"\xff\xfe", JSON, 400, "invalid_json"),
        (b'{"title":"\\ud800"}', JSON, 400, "invalid_json"),
        (b"[]", JSON, 422, "invalid_request"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported_media_type"),
        (b"x" * 100_000, JSON, 413, "body_too_large"),
    ],
)
async def test_garbage_is_refused(running: Stack, data: bytes, headers: dict[str, str], status: int, code: str) -> None:
    for method, path in (("POST", "/v1/products"), ("PATCH", f"/v1/products/{await running.create(fresh())}")):
        assert_problem(await running.request(method, path, data=data, headers=headers), status, code)


async def test_a_sku_belongs_to_one_product_or_variant(running: Stack) -> None:
    sku, other = fresh(), fresh()
    await running.create(sku, variants=variants(sku, 1))
    taken = await running.request("POST", "/v1/products", json=body(sku))
    assert_problem(taken, 409, "sku_in_use")
    assert taken.json["sku"] == sku
    taken = await running.request("POST", "/v1/products", json=body(other, variants=variants(sku, 1)))
    assert_problem(taken, 409, "sku_in_use")
    assert taken.json["sku"] == f"{sku}-0"
    product = await running.create(other)
    assert_problem(await running.request("PATCH", f"/v1/products/{product}", json={"sku": sku}), 409, "sku_in_use")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/products/prd_0", 404, "no_such_product"),
        ("/v1/products/a%00b", 404, "no_such_product"),
        ("/v1/products/prd_00000000000000000000000000", 404, "no_such_product"),
        ("/v1/products?limit=0", 422, "invalid_request"),
        ("/v1/products?limit=101", 422, "invalid_request"),
        ("/v1/products?limit=x", 422, "invalid_request"),
        ("/v1/products?cursor=x", 422, "invalid_request"),
        ("/v1/products?colour=red", 422, "invalid_request"),
        ("/v1/brands?cursor=x", 422, "invalid_request"),
        ("/v1/brands/0", 404, "no_such_brand"),
        ("/v1/brands/99999999999999999999", 404, "no_such_brand"),
        ("/v1/categories?cursor=%00", 422, "invalid_request"),
        ("/v1/categories/x", 404, "no_such_category"),
        ("/v1/imports/nothing", 404, "no_such_import"),
        ("/v1/imports/a%00b", 404, "no_such_import"),
        ("/v1/imports/nothing/errors", 404, "no_such_import"),
        ("/v1/nothing", 404, "no_such_route"),
    ],
)
async def test_what_is_not_there_is_told_so(running: Stack, path: str, status: int, code: str) -> None:
    assert_problem(await running.request("GET", path), status, code)


async def test_a_sku_that_nobody_can_have_is_nobody_s(running: Stack) -> None:
    assert (await running.request("GET", "/v1/products?sku=%00")).json["data"] == []


async def test_without_a_key_nothing_is_told(running: Stack) -> None:
    for key in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
        for method, path in (("GET", "/v1/products"), ("POST", "/v1/products"), ("POST", "/v1/brands")):
            answer = await running.request(method, path, json=body(fresh()) if method == "POST" else None, key=key)
            assert_problem(answer, 401, "unauthorised")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_brands_are_made_renamed_and_ended_when_nothing_belongs_to_them(running: Stack) -> None:
    name = fresh()
    made = await running.request("POST", "/v1/brands", json={"name": name})
    assert made.status == 201
    taken = await running.request("POST", "/v1/brands", json={"name": name})
    assert_problem(taken, 409, "name_in_use")
    assert taken.json["id"] == made.json["id"]
    path = made.headers["Location"]
    assert (await running.request("PUT", path, json={"name": name + "x"})).json["name"] == name + "x"
    assert_problem(await running.request("PUT", path, json={"name": "Acme"}), 409, "name_in_use")
    assert_problem(await running.request("PUT", path, json={"name": " "}), 422, "invalid_request")
    product = await running.create(fresh(), brand_id=made.json["id"])
    assert_problem(await running.request("DELETE", path), 409, "in_use")
    await running.request("DELETE", f"/v1/products/{product}")
    assert (await running.request("DELETE", path)).status == 204
    assert_problem(await running.request("GET", path), 404, "no_such_brand")
    assert_problem(await running.request("PUT", path, json={"name": "y"}), 404, "no_such_brand")
    assert "Acme" in {one["name"] for one in (await running.request("GET", "/v1/brands")).json["data"]}


async def test_categories_are_made_below_others_and_ended_when_empty(running: Stack) -> None:
    root = uuid4().hex[:8]
    orphan = {"path": f"{root}/below", "names": {"en": "Below"}}
    assert_problem(await running.request("POST", "/v1/categories", json=orphan), 422, "unknown_reference")
    top = await running.request("POST", "/v1/categories", json={"path": root, "names": {"en": "Top"}})
    assert top.status == 201
    below = await running.request("POST", "/v1/categories", json=orphan)
    assert below.status == 201
    assert_problem(await running.request("POST", "/v1/categories", json=orphan), 409, "name_in_use")
    assert_problem(await running.request("DELETE", top.headers["Location"]), 409, "in_use")
    renamed = await running.request("PUT", below.headers["Location"], json={"names": {"de": "Unten"}})
    assert (renamed.json["names"], renamed.json["path"]) == ({"de": "Unten"}, f"{root}/below")
    listed = await running.request("GET", f"/v1/categories?cursor={root}")
    assert f"{root}/below" in {one["path"] for one in listed.json["data"]}
    for made in (below, top):
        assert (await running.request("DELETE", made.headers["Location"])).status == 204


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "", "names": {"en": "x"}},
        {"path": "A", "names": {"en": "x"}},
        {"path": "a//b", "names": {"en": "x"}},
        {"path": "a/", "names": {"en": "x"}},
        {"path": "x", "names": {}},
        {"path": "x", "names": {"xx": "x"}},
        {"path": "x", "names": {"en": ""}},
        {"path": "x"},
    ],
)
async def test_a_category_that_makes_no_sense_is_refused(running: Stack, wrong: dict[str, Any]) -> None:
    assert_problem(await running.request("POST", "/v1/categories", json=wrong), 422, "invalid_request")


async def test_openapi_describes_every_route(running: Stack) -> None:
    document = (await running.request("GET", "/openapi.json")).json
    assert {"/v1/products", "/v1/products/{product_id}", "/v1/imports", "/v1/brands", "/v1/categories"} <= set(
        document["paths"]
    )
    assert "application/x-ndjson" in document["paths"]["/v1/imports"]["post"]["requestBody"]["content"]
