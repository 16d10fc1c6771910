"""The same queries on a real Elasticsearch find the same products as on OpenSearch: all that they are made of is known to both."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.search.live import Catalogue, generated, numbers
from tests.integration.search.test_queries import HAND
from tests.servers import SearchServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUERIES: tuple[dict[str, Any], ...] = (
    {"q": "kettle"},
    {"q": "castou kettle", "ranking": "bm25"},
    {"q": "911 997"},
    {"q": "OLM-0001234"},
    {"q": "traniers"},
    {"q": "black running shoes", "highlight": 1},
    {"q": '"red shoes" -box'},
    {"q": "brand:olm title:dri*", "sort": "price"},
    {"q": "model:xr*", "sort": "-price"},
    {"q": "laufschuh", "lang": "de"},
    {"q": "colour:black", "sort": "newest"},
    {"q": "", "sort": "popularity", "price": "..2000", "in_stock": "true"},
    {"q": "nord", "brand": "Castou", "attr.colour": "black", "number.size": "40..", "created_at": "2020-01-01.."},
)


@dataclass(frozen=True)
class Elsewhere:
    """Another engine."""

    url: str


@pytest.fixture(scope="module")
def elasticsearch_catalogue(elasticsearch: str) -> Catalogue:
    catalogue = Catalogue(Elsewhere(elasticsearch))
    asyncio.run(catalogue.fill([*HAND, *generated(3, 200)]))
    return catalogue


@pytest.fixture(scope="module")
def opensearch(search_server: SearchServer) -> Catalogue:
    catalogue = Catalogue(search_server)
    asyncio.run(catalogue.fill([*HAND, *generated(3, 200)]))
    return catalogue


async def answers(catalogue: Catalogue) -> list[Any]:
    async with catalogue.api() as api:
        return [await api.search(urlencode({"limit": 100, **query})) for query in QUERIES]


async def test_both_find_the_same_count_the_same_and_agree_on_the_first(
    opensearch: Catalogue, elasticsearch_catalogue: Catalogue
) -> None:
    for query, ours, theirs in zip(
        QUERIES, await answers(opensearch), await answers(elasticsearch_catalogue), strict=True
    ):
        assert set(numbers(ours)) == set(numbers(theirs)), query
        assert numbers(ours)[:1] == numbers(theirs)[:1], query
        for part in ("matching", "total", "facets", "degraded", "did_you_mean"):
            assert ours.get(part) == theirs.get(part), (query, part)


async def test_pages_suggestions_and_explanations_work_there_too(elasticsearch_catalogue: Catalogue) -> None:
    async with elasticsearch_catalogue.api() as api:
        query = {"q": "", "limit": 50, "facets": "none"}
        page = await api.search(urlencode(query))
        seen = [each["id"] for each in page["hits"]]
        while "next_cursor" in page:
            page = await api.search(urlencode({**query, "cursor": page["next_cursor"]}))
            seen += [each["id"] for each in page["hits"]]
        assert len(seen) == len(set(seen)) == len(HAND) + 200
        for typed in ("nord run", "kett", "trianers"):
            assert (await api.get("/v1/suggest", urlencode({"q": typed}))).json["suggestions"]
        hit = (await api.search("q=911%20997&facets=none"))["hits"][0]
        told = await api.search(urlencode({"q": "911 997", "explain": 1, "id": hit["id"]}))
        assert told["explanation"]["score"] == pytest.approx(hit["score"], rel=1e-6)
        assert {each["name"] for each in told["explanation"]["tiers"]} == {"exact", "number"}
