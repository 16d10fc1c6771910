"""What the index holds of a product."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.dlq import Unprocessable
from services.search import mappings
from services.search.documents import (
    DIGEST_BITS,
    ProductRow,
    VariantRow,
    ancestors,
    digest,
    document,
    encoded,
    measure,
)

LAMP = ProductRow(
    id=UUID("019b76da-a800-7d3f-af3c-2023f62efccc"),
    sku="LAM-00000007",
    title="Castou Neacou XR-500 Stehlampe rot",
    description="Für Große und Kleine.",
    language="de",
    brand_id=21,
    brand="Castou",
    path="home/lighting/floor",
    category_names=("Wohnen", "Beleuchtung", "Stehlampe"),
    model="XR-500",
    attributes={"colour": "rot", "height": "160 cm"},
    price=11_709,
    currency="EUR",
    stock=3,
    popularity=4,
    created_at=datetime(2025, 12, 13, 2, 45, 4, 123456, tzinfo=timezone(timedelta(hours=1))),
    variants=(
        VariantRow("LAM-7-B", {"colour": "blau", "height": "160 cm"}, 11_709, 2),
        VariantRow("LAM-7-A", {"height": "9.5 cm"}, 11_709, 1),
    ),
)


def test_a_product_becomes_a_document() -> None:
    made = document(LAMP)
    assert made == {
        "id": "019b76da-a800-7d3f-af3c-2023f62efccc",
        "language": "de",
        "sku": "LAM-00000007",
        "skus": ["LAM-7-A", "LAM-7-B"],
        "model": "XR-500",
        "title": LAMP.title,
        "title_de": LAMP.title,
        "description_de": LAMP.description,
        "brand": "Castou",
        "brand_id": 21,
        "category": "home/lighting/floor",
        "categories": ["home", "home/lighting", "home/lighting/floor"],
        "category_text": ["Wohnen", "Beleuchtung", "Stehlampe"],
        "attributes": ["colour=blau", "colour=rot", "height=160 cm", "height=9.5 cm"],
        "number": {"height": [9.5, 160.0]},
        "price": 11_709,
        "currency": "EUR",
        "stock": 3,
        "in_stock": True,
        "popularity": 4,
        "created_at": "2025-12-13T01:45:04.123+00:00",
        "suggest": LAMP.title,
    }


def test_every_field_of_a_document_is_in_the_newest_mapping() -> None:
    fields = mappings.load().fields
    for language in ("en", "de", "fr", "es"):
        assert {*document(replace(LAMP, language=language)), "digest"} <= fields


def test_nothing_is_in_stock_at_zero() -> None:
    assert document(replace(LAMP, stock=0))["in_stock"] is False


@pytest.mark.parametrize("wrong", [None, [], "text", 3, {"colour": 3}, {"colour": None}, {"colour": {"is": "red"}}])
def test_attributes_of_another_shape_are_poison(wrong: object) -> None:
    with pytest.raises(Unprocessable, match="malformed_attributes"):
        document(replace(LAMP, attributes=wrong))
    with pytest.raises(Unprocessable, match="malformed_attributes"):
        document(replace(LAMP, variants=(VariantRow("x", wrong, 1, 1),)))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("28 mm", 28.0),
        ("46", 46.0),
        ("1.5l", 1.5),
        ("-3 °", None),
        ("-3 K", -3.0),
        ("20 m²", 20.0),
        ("", None),
        ("red", None),
        ("12 x 13", None),
        ("١٢ mm", None),
        ("1e400", None),
        ("9" * 16, None),
        ("nan", None),
    ],
)
def test_measures_are_numbers_with_a_unit_or_without(text: str, number: float | None) -> None:
    assert measure(text) == number


@given(st.text())
def test_any_text_is_a_finite_measure_or_none(text: str) -> None:
    found = measure(text)
    assert found is None or abs(found) < 1e16


def test_an_attribute_whose_name_no_field_may_have_gives_no_number() -> None:
    made = document(replace(LAMP, variants=(), attributes={"Größe": "46", "a.b": "1", "": "2", "width": "3 mm"}))
    assert made["number"] == {"width": [3.0]}


def test_a_root_is_its_own_ancestor() -> None:
    assert list(ancestors("home")) == ["home"]


def test_an_older_mapping_gets_what_it_knows() -> None:
    sent = msgspec.json.decode(encoded(document(LAMP), frozenset({"id", "title", "digest"})))
    assert sent.keys() == {"id", "title", "digest"}
    assert sent["digest"] == digest(sent)


def test_the_digest_of_what_the_engine_gives_back_is_the_one_that_was_sent() -> None:
    sent = msgspec.json.decode(encoded(document(LAMP), mappings.load().fields))
    assert digest(dict(reversed(sent.items()))) == sent["digest"] < 1 << DIGEST_BITS


@pytest.mark.parametrize(
    "change",
    [
        {"price": 1},
        {"title": "x"},
        {"popularity": 5},
        {"variants": ()},
        {"created_at": datetime(2025, 1, 1, tzinfo=UTC)},
    ],
)
def test_another_content_has_another_digest(change: dict[str, object]) -> None:
    changed = replace(LAMP, **change)  # type: ignore[arg-type]  # fields of the row
    assert digest(document(changed)) != digest(document(LAMP))


def test_an_unknown_mapping_is_refused_with_those_there_are() -> None:
    with pytest.raises(mappings.UnknownMapping, match="version 99; there are: 1"):
        mappings.load(99)
