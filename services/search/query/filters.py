"""Filters as the engine's clauses, facets as its aggregations, and facets back as what people choose from.

A facet shows what could be chosen: its own filter does not narrow it (two colours may be chosen), all others do. Hits and facets
are two searches: the hits of a page need every filter and no count; the facets need no score and no page, so that they are
the same for every page and order, are remembered apart, and can be left out when time is short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from services.search.documents import CANARY
from services.search.query.request import ATTRIBUTE, NUMBER, Filter, Range, Terms
from services.search.ranking.boosts import Query

NOT_THE_CANARY: Query = {"bool": {"must_not": [{"term": {"id": str(CANARY)}}]}}

CHOSEN = ":chosen"
PRICES = (0, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)
"""Cents; lower ends of what the price facet counts."""
ATTRIBUTE_VALUES = 150
"""Most frequent `name=value` pairs that the attributes facet is made of."""


class FacetValue(msgspec.Struct, frozen=True):
    """`value` is what the filter of that name takes."""

    value: str
    count: int
    selected: bool = False


class Facet(msgspec.Struct, frozen=True):
    """`parameter` is what filters by it. `range`: the values are ranges."""

    parameter: str
    values: list[FacetValue]
    range: bool = False


def clause(one: Filter) -> Query:
    """For the `filter` of a bool query, where the engine remembers it by itself."""
    if isinstance(one, Terms):
        values: list[Any] = [value == "true" for value in one.values] if one.field == "in_stock" else list(one.values)
        return {"terms": {one.field: values}}
    ends = {"gte": one.low, "lte": one.high}
    return {"range": {one.field: {name: end for name, end in ends.items() if end is not None}}}


def clauses(filters: Sequence[Filter]) -> list[Query]:
    """All of them, and that nobody finds the canary."""
    return [NOT_THE_CANARY, *(clause(each) for each in filters)]


def matches(one: Filter, source: Mapping[str, Any]) -> bool:
    """Whether a document passes, as the engine would judge: for what is answered without it."""
    found = source.get("number", {}).get(one.field.removeprefix(NUMBER)) if one.field.startswith(NUMBER) else None
    value = source.get(one.field) if found is None else found
    values = value if isinstance(value, list) else [] if value is None else [value]
    if isinstance(one, Terms):
        return any((str(each).lower() if isinstance(each, bool) else str(each)) in one.values for each in values)
    return any(_between(one, each) for each in values)


def _between(one: Range, value: Any) -> bool:
    if one.field == "created_at":
        return _in(datetime.fromisoformat(value), _moment(one.low), _moment(one.high))
    return _in(value, one.low, one.high)


def _moment(end: object) -> datetime | None:
    return None if end is None else datetime.fromisoformat(str(end))


def _in(value: Any, low: Any, high: Any) -> bool:
    return (low is None or low <= value) and (high is None or value <= high)


def facet_body(query: Query, filters: Sequence[Filter], wanted: Sequence[str], size: int) -> dict[str, Any]:
    """The search that counts. `query` has no scores to give; what every facet shares narrows it."""
    counted = {name: aggregation for facet in wanted for name, aggregation in _counted(facet, filters, size).items()}
    shared = [each for each in filters if each.facet not in counted]
    own = [each for each in filters if each.facet in counted]
    # What was chosen may be too rare to be among the most frequent, and is shown all the same.
    counted |= {
        each.facet + CHOSEN: {"terms": {"field": each.field, "size": len(each.values), "include": list(each.values)}}
        for each in own
        if isinstance(each, Terms) and each.field != "in_stock"
    }
    return {
        "size": 0,
        "track_total_hits": False,
        "query": {"bool": {"filter": [query, *clauses(shared)]}},
        "aggs": {name: _others(name, own, aggregation) for name, aggregation in counted.items()},
    }


def facets(aggregations: Mapping[str, Any], filters: Sequence[Filter], wanted: Sequence[str], size: int) -> list[Facet]:
    """What came back, in the order asked for; what was chosen is there even where nothing was counted."""
    chosen = {each.facet: each for each in filters}
    found: list[Facet] = []
    for facet in wanted:
        if facet == "attributes":
            found += _attribute_facets(aggregations, chosen, size)
        elif facet == "price":
            found.append(_price_facet(_inner(aggregations, "price"), chosen.get("price")))
        else:
            found.append(Facet(facet, _values(_counts(aggregations, facet), chosen.get(facet))))
    return [each for each in found if each.values]


def _counted(facet: str, filters: Sequence[Filter], size: int) -> dict[str, Query]:
    if facet == "price":
        ranges = dict.fromkeys(zip(PRICES, (*(end - 1 for end in PRICES[1:]), None), strict=True))
        chosen = next((each for each in filters if isinstance(each, Range) and each.facet == "price"), None)
        if chosen is not None:
            ranges[int(chosen.low or 0), None if chosen.high is None else int(chosen.high)] = None
        ends = [{"from": low, **({} if high is None else {"to": high + 1})} for low, high in ranges]
        return {"price": {"range": {"field": "price", "ranges": ends}}}
    if facet == "attributes":
        names = [each.facet for each in filters if isinstance(each, Terms) and each.facet.startswith(ATTRIBUTE)]
        own = {name: _terms("attributes", size, f"{name.removeprefix(ATTRIBUTE)}=.*") for name in names}
        return {"attributes": _terms("attributes", ATTRIBUTE_VALUES), **own}
    return {facet: _terms({"category": "categories"}.get(facet, facet), size)}


def _terms(field: str, size: int, include: str | None = None) -> Query:
    return {"terms": {"field": field, "size": size} | ({"include": include} if include else {})}


def _others(name: str, filters: Sequence[Filter], aggregation: Query) -> Query:
    others = [clause(each) for each in filters if each.facet != name.removesuffix(CHOSEN)]
    return {"filter": {"bool": {"filter": others}}, "aggs": {"values": aggregation}} if others else aggregation


def _inner(aggregations: Mapping[str, Any], name: str) -> Any:
    found = aggregations[name]
    return found.get("values", found)


def _counts(aggregations: Mapping[str, Any], facet: str) -> list[tuple[str, int]]:
    """Of the most frequent values and, behind them, of the chosen ones."""
    found: dict[str, int] = {}
    for name in (facet, facet + CHOSEN):
        if name in aggregations:
            for bucket in _inner(aggregations, name)["buckets"]:
                found.setdefault(_text(bucket), bucket["doc_count"])
    return list(found.items())


def _text(bucket: Mapping[str, Any]) -> str:
    return str(bucket.get("key_as_string", bucket["key"]))


def _values(counted: Sequence[tuple[str, int]], chosen: Filter | None) -> list[FacetValue]:
    selected = chosen.values if isinstance(chosen, Terms) else ()
    prefix = f"{chosen.facet.removeprefix(ATTRIBUTE)}=" if chosen and chosen.facet.startswith(ATTRIBUTE) else ""
    wanted = [value.removeprefix(prefix) for value in selected]
    missing = [(value, 0) for value in wanted if value not in {name for name, _ in counted}]
    return [FacetValue(value, count, value in wanted) for value, count in (*counted, *missing)]


def _price_facet(aggregation: Mapping[str, Any], chosen: Filter | None) -> Facet:
    values = []
    for bucket in aggregation["buckets"]:
        low, high = int(bucket["from"]), int(bucket["to"]) - 1 if "to" in bucket else None
        selected = isinstance(chosen, Range) and (chosen.low or 0, chosen.high) == (low, high)
        if bucket["doc_count"] or selected:
            values.append(FacetValue(f"{low}..{'' if high is None else high}", bucket["doc_count"], selected))
    return Facet("price", values, range=True)


def _attribute_facets(aggregations: Mapping[str, Any], chosen: Mapping[str, Filter], size: int) -> list[Facet]:
    counted: dict[str, list[tuple[str, int]]] = {}
    for bucket in _inner(aggregations, "attributes")["buckets"]:
        name, _, value = str(bucket["key"]).partition("=")
        counted.setdefault(ATTRIBUTE + name, []).append((value, bucket["doc_count"]))
    for name in chosen:
        if name.startswith(ATTRIBUTE):
            counts = _counts(aggregations, name)
            counted[name] = [(value.partition("=")[2], count) for value, count in counts]
    most = {name: size + len(one.values) for name, one in chosen.items() if isinstance(one, Terms)}
    return [
        Facet(name, _values(values[: most.get(name, size)], chosen.get(name)))
        for name, values in sorted(counted.items())
    ]
