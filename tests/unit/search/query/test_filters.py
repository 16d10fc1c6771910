"""Filters and facets."""

from __future__ import annotations

from typing import Any

import pytest

from services.search.query.filters import Facet, FacetValue, clauses, facet_body, facets, matches
from services.search.query.request import DEFAULT_FACETS, Range, Terms, read_search
from tests.unit.search.fake_engine import source

RED = Terms("attr.colour", "attributes", ("colour=red",))
BRAND = Terms("brand", "brand", ("Castou",))
PRICE = Range("price", "price", 0, 2499)


def body(*filters: Any, wanted: tuple[str, ...] = DEFAULT_FACETS) -> dict[str, Any]:
    return facet_body({"match_all": {}}, filters, wanted, 10)


def narrowed_by(aggregation: dict[str, Any]) -> set[str]:
    """Fields that narrow this count."""
    inner = aggregation.get("filter", {}).get("bool", {}).get("filter", [])
    return {field for each in inner for field in next(iter(each.values()))}


def test_a_facets_own_filter_does_not_narrow_it_and_all_others_do() -> None:
    counted = body(RED, BRAND)["aggs"]
    assert narrowed_by(counted["brand"]) == {"attributes"}
    assert narrowed_by(counted["attr.colour"]) == {"brand"}
    assert narrowed_by(counted["price"]) == {"attributes", "brand"}
    assert counted["attr.colour"]["aggs"]["values"]["terms"]["include"] == "colour=.*"


def test_what_was_chosen_is_counted_however_rare_it_is() -> None:
    counted = body(RED, BRAND)["aggs"]
    assert narrowed_by(counted["brand:chosen"]) == {"attributes"}
    assert counted["brand:chosen"]["aggs"]["values"]["terms"]["include"] == ["Castou"]
    answer = {
        "brand": {"values": {"buckets": [{"key": "Nord", "doc_count": 9}]}},
        "brand:chosen": {"values": {"buckets": [{"key": "Castou", "doc_count": 1}]}},
    }
    assert facets(answer, (BRAND,), ("brand",), 1) == [
        Facet("brand", [FacetValue("Nord", 9), FacetValue("Castou", 1, True)])
    ]


def test_what_no_facet_shows_narrows_the_search_itself() -> None:
    made = body(BRAND, Range("stock", "stock", 1, None), wanted=("brand",))
    assert {"range": {"stock": {"gte": 1}}} in made["query"]["bool"]["filter"]
    assert "filter" not in made["aggs"]["brand"]


def test_facets_are_read_back_with_what_was_chosen() -> None:
    counted = {
        "brand": {"buckets": [{"key": "Castou", "doc_count": 3}, {"key": "Nord", "doc_count": 2}]},
        "attributes": {
            "values": {"buckets": [{"key": "size=42", "doc_count": 1}, {"key": "colour=red", "doc_count": 9}]}
        },
        "attr.colour": {
            "values": {"buckets": [{"key": "colour=red", "doc_count": 2}, {"key": "colour=blue", "doc_count": 1}]}
        },
    }
    filters = (Terms("attr.colour", "attributes", ("colour=green", "colour=red")), BRAND)
    assert facets(counted, filters, ("brand", "attributes"), 10) == [
        Facet("brand", [FacetValue("Castou", 3, True), FacetValue("Nord", 2)]),
        Facet("attr.colour", [FacetValue("red", 2, True), FacetValue("blue", 1), FacetValue("green", 0, True)]),
        Facet("attr.size", [FacetValue("42", 1)]),
    ]


@pytest.mark.parametrize(
    ("chosen", "selected"),
    [(PRICE, "0..2499"), (Range("price", "price", 300, 700), "300..700"), (Range("price", "price", 5, None), "5..")],
)
def test_price_ranges_are_values_that_the_filter_takes(chosen: Range, selected: str) -> None:
    counted = body(chosen, wanted=("price",))["aggs"]["price"]["range"]["ranges"]
    buckets = [{name: float(end) for name, end in each.items()} | {"doc_count": 1} for each in counted]
    (facet,) = facets({"price": {"buckets": buckets}}, (chosen,), ("price",), 10)
    assert [each.value for each in facet.values if each.selected] == [selected]
    for each in facet.values:
        assert read_search([("price", each.value)]).filters


@pytest.mark.parametrize(
    ("one", "passes"),
    [
        (RED, True),
        (Terms("attr.colour", "attributes", ("colour=blue",)), False),
        (Terms("in_stock", "in_stock", ("true",)), True),
        (Terms("in_stock", "in_stock", ("false",)), False),
        (Terms("category", "categories", ("home",)), True),
        (PRICE, True),
        (Range("price", "price", 2500, None), False),
        (Range("number.weight", "number.weight", None, 7.0), True),
        (Range("number.weight", "number.weight", 7.5, None), False),
        (Range("number.volume", "number.volume", 0.0, None), False),
        (Range("created_at", "created_at", "2025-12-31T00:00:00.000Z", None), True),
        (Range("created_at", "created_at", None, "2025-12-31T00:00:00.000Z"), False),
    ],
)
def test_what_is_shown_without_the_engine_passes_the_same_filters(one: Any, passes: bool) -> None:
    assert matches(one, source(7)) is passes


def test_nobody_finds_the_canary() -> None:
    assert "must_not" in clauses(())[0]["bool"]
