"""What a payment's event means for the stock, and what of it is set aside."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain import LARGEST_POPULARITY, LARGEST_SALE, Product, Sale, sold
from services.catalog.sales import read
from services.contracts.payments import PaymentEvent
from services.kit.consumer import Record
from services.patterns.dlq import Unprocessable
from tests.unit.catalog.test_handlers import made, variant

HEADERS: dict[str, bytes] = {"ce_id": b"evt_1", "ce_type": b"payments.payment.captured"}
GOOD = PaymentEvent(
    "pay_1", "mer_1", "order-1", "tok_1", "captured", 1000, "EUR", 1000, 0, 1, {"sku": "A-1", "quantity": "3"}
)


def record(value: bytes | None = None, headers: dict[str, bytes] | None = None, **changes: Any) -> Record:
    body = msgspec.json.encode(msgspec.structs.replace(GOOD, **changes)) if value is None else value
    pairs = tuple((HEADERS if headers is None else headers).items())
    return ConsumerRecord("payments.payment.v1", 0, 0, 0, 0, b"pay_1", body, None, 0, 0, pairs)


def test_a_captured_payment_that_names_an_article_is_a_sale() -> None:
    assert read(record(), "mer_1") == Sale("evt_1", "pay_1", "A-1", 3)


def test_without_a_quantity_one_is_sold() -> None:
    assert read(record(metadata={"sku": "A-1"}), "mer_1") == Sale("evt_1", "pay_1", "A-1", 1)


@pytest.mark.parametrize(
    "unrelated",
    [
        record(metadata={}),
        record(metadata={"colour": "red"}),
        record(merchant_id="mer_2"),
        record(headers={**HEADERS, "ce_type": b"payments.payment.refunded"}),
        record(headers={**HEADERS, "ce_type": b"payments.payment.not_invented_yet"}),
        record(b"{}", headers={**HEADERS, "ce_type": b"lab.group_7"}),
    ],
)
def test_what_is_none_of_ours_is_passed_over(unrelated: Record) -> None:
    assert read(unrelated, "mer_1") is None


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (record(headers={}), "no_cloudevent"),
        (record(headers={"ce_id": b"evt_1"}), "no_cloudevent"),
        (record(headers={**HEADERS, "ce_id": b"\xff"}), "no_cloudevent"),
        (record(headers={**HEADERS, "ce_id": b"x" * 101}), "malformed_head"),
        (record(headers={**HEADERS, "ce_id": b"a\x00b"}), "malformed_head"),
        (record(headers={**HEADERS, "ce_id": b""}), "malformed_head"),
        (record(headers={**HEADERS, "ce_type": b"no type"}), "malformed_head"),
        (record(headers={**HEADERS, "ce_type": b"a." * 100 + b"b"}), "malformed_head"),
        (record(b""), "malformed_body"),
        (record(b"{}"), "malformed_body"),
        (record(b"\xff"), "malformed_body"),
        (record(b'{"x":' + b"[" * 100_000), "malformed_body"),
        (record(metadata={"sku": 7}), "malformed_body"),
        (record(payment_id="pay\x00"), "malformed_body"),
        (record(metadata={"sku": ""}), "malformed_order"),
        (record(metadata={"sku": "x" * 65}), "malformed_order"),
        (record(metadata={"sku": "a\x00"}), "malformed_order"),
        (record(metadata={"sku": "A-1", "quantity": "0"}), "malformed_order"),
        (record(metadata={"sku": "A-1", "quantity": "-1"}), "malformed_order"),
        (record(metadata={"sku": "A-1", "quantity": "1.5"}), "malformed_order"),
        (record(metadata={"sku": "A-1", "quantity": ""}), "malformed_order"),
        (record(metadata={"sku": "A-1", "quantity": str(LARGEST_SALE + 1)}), "malformed_order"),
        (record(metadata={"sku": "A-1", "quantity": "9" * 5000}), "malformed_order"),
        (record(metadata={"sku": "A-1", "quantity": "\u0663"}), "malformed_order"),
    ],
)
def test_garbage_is_unprocessable_with_its_reason(garbage: Record, reason: str) -> None:
    with pytest.raises(Unprocessable) as why:
        read(garbage, "mer_1")
    assert why.value.reason == reason


def test_a_record_without_a_body_is_unprocessable() -> None:
    empty: Record = ConsumerRecord("t", 0, 0, 0, 0, b"k", None, None, 0, 0, tuple(HEADERS.items()))
    with pytest.raises(Unprocessable, match="no_body"):
        read(empty, "mer_1")


def sale(sku: str, quantity: int) -> Sale:
    return Sale("evt_1", "pay_1", sku, quantity)


def test_a_sale_takes_from_the_stock_and_makes_the_product_more_popular() -> None:
    after, short = sold(made(stock=5, popularity=2), sale("A-1", 3))
    assert (after.stock, after.popularity, short) == (2, 5, 0)


def test_what_is_not_there_is_short_and_the_stock_is_never_below_zero() -> None:
    after, short = sold(made(stock=2), sale("A-1", 5))
    assert (after.stock, after.popularity, short) == (0, 5, 3)


def test_a_variant_s_sale_takes_from_that_variant() -> None:
    product = made(variants=[variant("A-1-a", stock=4), variant("A-1-b", stock=1)])
    after, short = sold(product, sale("A-1-a", 3))
    assert ([each.stock for each in after.variants], after.stock, short) == ([1, 1], 2, 0)
    after, short = sold(product, sale("A-1-b", 3))
    assert ([each.stock for each in after.variants], after.stock, short) == ([4, 0], 4, 2)


def test_a_product_whose_variants_are_sold_has_nothing_to_sell_itself() -> None:
    after, short = sold(made(variants=[variant("A-1-a", stock=4)]), sale("A-1", 3))
    assert (after.stock, after.variants[0].stock, short) == (4, 4, 3)


def test_popularity_stays_within_its_bound() -> None:
    after, _ = sold(made(stock=5, popularity=LARGEST_POPULARITY), sale("A-1", 3))
    assert after.popularity == LARGEST_POPULARITY


@given(stock=st.integers(0, 100), quantity=st.integers(1, 200))
def test_what_is_sold_is_taken_or_short(stock: int, quantity: int) -> None:
    product: Product = made(stock=stock)
    after, short = sold(product, sale("A-1", quantity))
    assert product.stock - after.stock + short == quantity
    assert after.stock >= 0
    assert after.id == UUID(int=7)
