from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog import problems
from services.catalog.domain import LARGEST_STOCK, Offer, OfferOutcome, Product, Stored, Variant
from services.catalog.generate import products
from services.catalog.handlers import offered, patched, product_of, with_stock, with_variant
from services.catalog.schemas import PatchProduct, ProductBody, product_line, product_view

ID = UUID(int=7)
NOW = datetime(2026, 5, 1, tzinfo=UTC)
LEAST: dict[str, Any] = {
    "sku": "A-1", "title": "A thing", "language": "en", "brand_id": 1, "category_id": 2, "price": 100, "currency": "EUR",
}  # fmt: skip


def body(**changes: Any) -> ProductBody:
    whole = {name: value for name, value in (LEAST | changes).items() if value is not ...}
    return product_line.decode(msgspec.json.encode(whole))


def made(**changes: Any) -> Product:
    return product_of(body(**changes), ID, NOW)


def variant(sku: str, **changes: Any) -> dict[str, Any]:
    return {"sku": sku, "price": 100} | changes


def test_the_least_that_makes_a_product() -> None:
    product = made()
    assert (product.id, product.created_at, product.stock, product.variants) == (ID, NOW, 0, ())


def test_a_product_s_stock_is_that_of_its_variants_together() -> None:
    product = made(variants=[variant("A-1-b", stock=2), variant("A-1-a", stock=5)])
    assert product.stock == 7
    assert [each.sku for each in product.variants] == ["A-1-a", "A-1-b"]


@pytest.mark.parametrize(
    "changes",
    [
        {"sku": ...},
        {"sku": ""},
        {"sku": "a b"},
        {"sku": "a\n"},
        {"sku": "x" * 65},
        {"sku": 1},
        {"title": ""},
        {"title": " "},
        {"title": "a\u0000b"},
        {"title": "a\nb"},
        {"title": "x" * 301},
        {"description": "a\u0000"},
        {"description": "x" * 10_001},
        {"language": "xx"},
        {"brand_id": 0},
        {"brand_id": 2**31},
        {"brand_id": "1"},
        {"brand_id": True},
        {"price": 0},
        {"price": 1.5},
        {"price": 10**9},
        {"currency": "eur"},
        {"currency": "EURO"},
        {"stock": -1},
        {"stock": 10**10},
        {"popularity": -1},
        {"attributes": {"Colour": "red"}},
        {"attributes": {"colour": ""}},
        {"attributes": {"colour": 1}},
        {"attributes": {f"a{n}": "x" for n in range(51)}},
        {"attributes": []},
        {"variants": [{"sku": "v"}]},
        {"variants": [variant(f"v{n}") for n in range(201)]},
        {"variants": None},
        {"created_at": "yesterday"},
        {"created_at": "2026-01-01T00:00:00"},
        {"colour": "red"},
        {"id": "prd_1"},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_a_body_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        body(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"variants": [variant("v"), variant("v")]},
        {"variants": [variant("A-1")]},
        {"variants": [variant("v")], "stock": 3},
        {"variants": [variant("v", stock=10**9), variant("w", stock=1)]},
        {"created_at": "1969-12-31T23:59:59Z"},
        {"created_at": "9999-12-31T23:59:59Z"},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_a_product_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(problems.InvalidProduct):
        made(**changes)


def patch(**changes: Any) -> PatchProduct:
    return msgspec.json.decode(msgspec.json.encode(changes), type=PatchProduct)


def test_a_patch_changes_what_is_given_and_nothing_else() -> None:
    was = made(description="long", attributes={"colour": "red"}, stock=3)
    assert patched(was, patch()) == was
    assert patched(was, patch(price=5)) == replace(was, price=5)
    assert patched(was, patch(attributes={"size": "4"})) == replace(was, attributes={"size": "4"})
    assert patched(was, patch(stock=9)) == replace(was, stock=9)


def test_a_patch_of_variants_replaces_them_all_and_the_stock_follows() -> None:
    was = made(variants=[variant("a", stock=1), variant("b", stock=2)])
    assert patched(was, patch(variants=[variant("b", stock=5)])).stock == 5
    none = patched(was, patch(variants=[]))
    assert (none.stock, none.variants) == (0, ())
    assert patched(was, patch(variants=[], stock=4)).stock == 4


def test_stock_is_set_where_it_is_kept() -> None:
    with_variants = made(variants=[variant("a", stock=1)])
    with pytest.raises(problems.HasVariants):
        with_stock(with_variants, 3)
    with pytest.raises(problems.HasVariants):
        patched(with_variants, patch(stock=3))
    changed = with_variant(with_variants, "a", stock=8)
    assert (changed.stock, changed.variants[0].stock) == (8, 8)
    with pytest.raises(problems.NoSuchVariant):
        with_variant(with_variants, "b", stock=8)


def test_a_product_cannot_take_its_variant_s_sku() -> None:
    with pytest.raises(problems.InvalidProduct):
        patched(made(variants=[variant("a")]), patch(sku="a"))


def test_what_is_generated_could_be_sent() -> None:
    for product in products(1, 300):
        view = msgspec.to_builtins(product_view(Stored(product, 1, NOW)))
        for given_by_us in ("id", "updated_at", "version", *(["stock"] if product.variants else [])):
            del view[given_by_us]
        again = product_of(product_line.decode(msgspec.json.encode(view)), product.id, NOW)
        by_sku: tuple[Variant, ...] = tuple(sorted(product.variants, key=lambda each: each.sku))
        assert again == replace(product, variants=by_sku)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_product_or_a_refusal(line: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
        product_line.decode(line)


def test_an_offer_changes_what_it_says_and_nothing_else() -> None:
    was = made(stock=3)
    assert offered(was, Offer("A-1", 250, None)) == made(price=250, stock=3)
    assert offered(was, Offer("A-1", None, 0)) == made(stock=0)
    assert offered(was, Offer("A-1", 100, 3)) == was


def test_an_offer_of_a_variant_changes_the_sum_and_one_of_the_product_only_its_price() -> None:
    was = made(variants=[variant("A-1-a", stock=2), variant("A-1-b", stock=5)])
    after = offered(was, Offer("A-1-b", 7, 9))
    assert isinstance(after, Product)
    assert (after.stock, [(each.price, each.stock) for each in after.variants]) == (11, [(100, 2), (7, 9)])
    assert offered(was, Offer("A-1", 7, 9)) is OfferOutcome.HAS_VARIANTS
    assert offered(was, Offer("A-1-a", None, LARGEST_STOCK)) is OfferOutcome.TOO_MUCH_STOCK
