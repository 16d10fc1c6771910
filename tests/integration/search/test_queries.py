"""What is found, in which order, by which filters: the API on a real engine. Known complaints of users are tests here."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit import ids
from services.search.engine import Engine
from services.search.query.build import FIELDS, Asked, Matching, ceiling, text_query
from services.search.query.filters import matches
from services.search.query.parser import parse
from services.search.query.request import FIELD_NAMES, read_search
from services.search.query.synonyms import FILE, read
from services.search.ranking import RANKINGS
from services.search.ranking.ranking import WEIGHTS
from tests.integration.search.live import NOW, Catalogue, generated, numbers, product
from tests.servers import SearchServer
from tests.stack import until
from tests.unit.search.fake_engine import Api

pytestmark = pytest.mark.integration

FAVOURITE: dict[str, Any] = {"popularity": 1_000_000, "stock": 500, "created_at": NOW}
WALLFLOWER: dict[str, Any] = {"popularity": 0, "stock": 0, "created_at": NOW - timedelta(days=3000)}

HAND = [
    product(1, "Castou Kettle", **WALLFLOWER),
    product(2, "Castou Kettel original kettel kettel", description="kettel", **FAVOURITE),
    product(3, "Porsa 911 997 air filter", model="911 997", **WALLFLOWER),
    product(4, "Porsa 911 991 air filter 997 997", model="911 991", **FAVOURITE),
    product(5, "Porsa 911 998 air filter", model="911 998", **FAVOURITE),
    product(6, "Nord running shoes", attributes={"colour": "black", "size": "42"}, path="fashion/shoes/running"),
    product(7, "Nord trainers", attributes={"colour": "white", "size": "43"}, path="fashion/shoes/running"),
    product(8, "Süd Laufschuhe größe", language="de", brand="Süd", brand_id=2, description="Für große Läufer."),
    product(9, "Nord red shoe box", description="holds two red shoes"),
    product(10, "Nord shoes red"),
    product(11, "Olm <b>drill</b> & bit", description="A drill for <i>everything</i>: drill it."),
    product(12, "Olm chef's knife", attributes={"colour": "black"}),
    product(13, "Olm XR-2100 saw", model="XR-2100", sku="OLM-0001234"),
    product(14, "Olm XR-2200 saw", model="XR-2200", sku="OLM-0001235", **FAVOURITE),
    product(15, "Olm éclairage café", language="fr"),
]


@pytest.fixture(scope="module")
def hand(search_server: SearchServer) -> Catalogue:
    catalogue = Catalogue(search_server)
    asyncio.run(catalogue.fill(HAND))
    return catalogue


@pytest.fixture(scope="module")
def many(search_server: SearchServer) -> Catalogue:
    catalogue = Catalogue(search_server)
    asyncio.run(catalogue.fill(list(generated(3, 400))))
    return catalogue


async def found(catalogue: Catalogue, q: str, **parameters: Any) -> list[int]:
    async with catalogue.api() as api:
        return numbers(await api.search(urlencode({"q": q, "facets": "none", **parameters})))


async def test_a_typo_never_ranks_above_an_exact_match_however_well_it_sells(hand: Catalogue) -> None:
    for ranking in RANKINGS:
        assert (await found(hand, "kettle", ranking=ranking))[:2] == [1, 2]
        assert (await found(hand, "castou kettle", ranking=ranking))[:2] == [1, 2]
        assert (await found(hand, "kettles", ranking=ranking))[0] == 1


async def test_911_997_finds_itself_before_911_991(hand: Catalogue) -> None:
    for q in ("911 997", "911997", "911-997", "porsa 911 997", "air filter 911 997"):
        assert (await found(hand, q))[0] == 3, q
    assert (await found(hand, "911 991"))[0] == 4


async def test_article_numbers_and_models_have_no_typos(hand: Catalogue) -> None:
    assert await found(hand, "OLM-0001234") == [13]
    assert await found(hand, "olm0001234") == [13]
    assert await found(hand, "sku:OLM-0001235") == [14]
    assert await found(hand, "XR2100") == [13]
    assert await found(hand, "XR-2300") == []
    assert await found(hand, "model:xr*", sort="price") == [13, 14]


async def test_synonyms_find_each_other_and_typos_are_still_allowed(hand: Catalogue) -> None:
    assert set(await found(hand, "sneakers")) == {6, 7}
    assert set(await found(hand, "trainers")) >= {6, 7}
    assert {6, 7} <= set(await found(hand, "sneekers"))
    assert {6, 7} <= set(await found(hand, "traniers"))
    assert (await found(hand, "blak trainers"))[0] == 6


async def test_attributes_are_words_too(hand: Catalogue) -> None:
    assert (await found(hand, "black running shoes"))[0] == 6
    assert await found(hand, "colour:black shoes") == [6]


async def test_words_are_stemmed_in_their_language(hand: Catalogue) -> None:
    assert 8 in await found(hand, "laufschuh", lang="de")
    assert 8 in await found(hand, "grosse", lang="de")
    assert 15 in await found(hand, "eclairages", lang="fr")


@pytest.mark.parametrize(
    ("q", "products"),
    [
        ('"red shoes"', {9}),
        ('"shoes red"', {10}),
        ("shoes -red", {6}),
        ('shoes -"red shoe"', {6, 10}),
        ("-castou -nord -porsa -olm", {8}),
        ("brand:castou title:kettle", {1}),
        ("title:drill", {11}),
        ("xr*", {13, 14}),
        ("title:ket*", {1, 2}),
        ("material:steel", set()),
        ("size:42", {6}),
        ("chef's knife", {12}),
    ],
)
async def test_phrases_exclusions_fields_and_beginnings(hand: Catalogue, q: str, products: set[int]) -> None:
    assert set(await found(hand, q, sort="price")) == products


async def test_what_matched_is_highlighted_and_everything_else_escaped(hand: Catalogue) -> None:
    async with hand.api() as api:
        answer = await api.search("q=drills&highlight=1&facets=none")
    marked = answer["hits"][0]["highlight"]
    assert marked["title"] == "Olm &lt;b&gt;<mark>drill</mark>&lt;/b&gt; &amp; bit"
    assert marked["description"].count("<mark>drill</mark>") == 2
    assert "<i>" not in marked["description"]


async def test_better_words_are_named(hand: Catalogue) -> None:
    async with hand.api() as api:
        assert (await api.search("q=Nord%20traners&facets=none"))["did_you_mean"] == "Nord trainers"
        assert "did_you_mean" not in await api.search("q=trainers&facets=none")


async def test_an_explanation_adds_up(hand: Catalogue) -> None:
    async with hand.api() as api:
        for ranking in RANKINGS:
            page = await api.search(urlencode({"q": "porsa 911 997", "facets": "none", "ranking": ranking}))
            for place in (0, 1):
                hit = page["hits"][place]
                query = {"q": "porsa 911 997", "explain": 1, "id": hit["id"], "ranking": ranking}
                told = (await api.search(urlencode(query)))["explanation"]
                assert told["score"] == pytest.approx(hit["score"], rel=1e-6)
                product_of_boosts = 1.0
                for each in told["boosts"]:
                    product_of_boosts *= each["factor"]
                tiers = sum(each["constant"] for each in told["tiers"])
                assert tiers + told["text"] * product_of_boosts == pytest.approx(hit["score"], rel=1e-5)
                assert 0 < told["text"] < ceiling(Asked(parse("porsa 911 997", FIELDS)), WEIGHTS)
                assert told["engine"]["value"] == pytest.approx(hit["score"], rel=1e-6)
        assert {each["name"] for each in told["tiers"]} <= {"exact", "number"}
        words = {each["word"]: each["how"] for each in told["words"]}
        assert words["porsa"] == "exact"


async def test_an_explanation_says_typo_synonym_and_missing(hand: Catalogue) -> None:
    async def words(api: Api, q: str, number: int) -> dict[str, str]:
        query = {"q": q, "explain": 1, "id": ids.encode("prd", UUID(int=number))}
        told = (await api.search(urlencode(query)))["explanation"]
        return {each["word"]: each["how"] for each in told["words"]}

    async with hand.api() as api:
        assert await words(api, "kettle", 2) == {"kettle": "typo"}
        assert await words(api, "sneakers", 6) == {"sneakers": "synonym"}
        assert await words(api, "nord kettle", 6) == {"nord": "exact", "kettle": "missing"}
        query = {"q": "kettle", "explain": 1, "id": ids.encode("prd", UUID(int=6))}
        assert (await api.get("/v1/search", urlencode(query))).status == 404


async def test_suggestions_by_beginning_by_inner_word_and_with_a_typo(hand: Catalogue) -> None:
    async def suggested(api: Api, q: str) -> list[str]:
        answer = await api.get("/v1/suggest", urlencode({"q": q}))
        assert answer.status == 200
        return [each["text"] for each in answer.json["suggestions"]]

    async with hand.api() as api:
        assert (await suggested(api, "nord run"))[0] == "Nord running shoes"
        assert "Castou Kettle" in await suggested(api, "kett")
        assert (await suggested(api, "air fil"))[:2] == ["Porsa 911 991 air filter 997 997", "Porsa 911 998 air filter"]
        assert "Nord trainers" in await suggested(api, "trianers")
        assert await suggested(api, "zzzzzz") == []


@pytest.mark.parametrize("sort", ["relevance", "price", "-price", "newest", "popularity"])
async def test_pages_hold_every_product_once_and_in_order(many: Catalogue, sort: str) -> None:
    async with many.api() as api:
        seen: list[dict[str, Any]] = []
        query = {"sort": sort, "limit": 37, "facets": "none", "fields": ",".join(FIELD_NAMES)}
        page = await api.search(urlencode(query))
        assert page["total"] == {"value": 400, "relation": "eq"}
        while True:
            seen += page["hits"]
            if "next_cursor" not in page:
                break
            page = await api.search(urlencode({**query, "cursor": page["next_cursor"]}))
    assert len(seen) == len({each["id"] for each in seen}) == 400
    field, falls = {
        "relevance": ("score", True),
        "price": ("price", False),
        "-price": ("price", True),
        "newest": ("created_at", True),
        "popularity": ("popularity", True),
    }[sort]
    values = [each[field] for each in seen]
    assert values == sorted(values, reverse=falls)


async def test_no_page_shows_a_product_twice_across_a_swap(search_server: SearchServer) -> None:
    catalogue = Catalogue(search_server)
    await catalogue.fill(list(generated(5, 120)))
    async with catalogue.api() as api:
        query = {"limit": "10", "facets": "none", "fields": "id"}
        page = await api.search(urlencode(query))
        before, seen = page["index"], [each["id"] for each in page["hits"]]
        new = await catalogue.swap()
        for _ in range(11):
            page = await api.search(urlencode({**query, "cursor": page["next_cursor"]}))
            seen += [each["id"] for each in page["hits"]]
            assert page["index"] == before
        assert len(seen) == len(set(seen)) == 120

        async def new_is_read() -> bool:
            return bool((await api.search(urlencode(query)))["index"] == new)

        await until(new_is_read)
        async with Engine([search_server.url]) as engine:
            await engine.update_aliases([{"remove": {"index": before, "alias": f"{catalogue.prefix}products-write"}}])
            await engine.delete_index(before)
        gone = await api.get("/v1/search", urlencode({**query, "cursor": page.get("next_cursor", "")}))
        assert gone.status in (200, 410)


async def test_writes_between_two_pages_repeat_nothing(search_server: SearchServer) -> None:
    catalogue = Catalogue(search_server)
    rows = [product(number, f"Nord lamp {number}", popularity=number) for number in range(1, 31)]
    await catalogue.fill(rows)
    async with catalogue.api() as api:
        query = {"q": "lamp", "limit": 10, "facets": "none", "sort": "popularity"}
        page = await api.search(urlencode(query))
        seen = numbers(page)
        assert seen == list(range(30, 20, -1))
        await catalogue.fill([product(30, "Nord lamp 30", popularity=0)], version=2)
        while "next_cursor" in page:
            page = await api.search(urlencode({**query, "cursor": page["next_cursor"]}))
            seen += numbers(page)
    assert sorted(seen) == list(range(1, 31))


async def test_filters_find_just_what_passes_them(many: Catalogue) -> None:
    rng = random.Random(1)
    async with many.api() as api:
        for _ in range(60):
            pairs = drawn_filters(rng, list(many.sources.values()))
            answer = await api.search(urlencode([*pairs, ("limit", "100"), ("facets", "none")]))
            wanted = read_search(pairs).filters
            passing = {key for key, each in many.sources.items() if all(matches(one, each) for one in wanted)}
            assert answer["total"]["value"] == len(passing), pairs
            if len(passing) <= 100:
                assert {str(ids.decode("prd", each["id"])) for each in answer["hits"]} == passing


async def test_facets_count_what_choosing_them_would_find(many: Catalogue) -> None:
    rng = random.Random(2)
    async with many.api() as api:
        for _ in range(25):
            pairs = drawn_filters(rng, list(many.sources.values()))
            facets = "brand,category,price,in_stock,attributes,language"
            answer = await api.search(urlencode([*pairs, ("facets", facets), ("facet_size", "100"), ("limit", "1")]))
            filters = read_search(pairs).filters
            for facet in answer["facets"]:
                others = [each for each in filters if each.facet != facet["parameter"]]
                for value in facet["values"]:
                    chosen = read_search([(facet["parameter"], value["value"])]).filters
                    expected = sum(
                        all(matches(one, each) for one in (*others, *chosen)) for each in many.sources.values()
                    )
                    assert value["count"] == expected, (pairs, facet["parameter"], value)


def drawn_filters(rng: random.Random, sources: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Filters that somebody may choose; most leave something."""
    pairs: list[tuple[str, str]] = []
    some = rng.choice(sources)
    if rng.random() < 0.4:
        pairs += [("brand", each) for each in {some["brand"], rng.choice(sources)["brand"]}]
    if rng.random() < 0.4:
        pairs.append(("category", rng.choice(some["categories"])))
    if rng.random() < 0.4:
        pairs.append(("price", f"{rng.randrange(5000)}..{rng.choice(['', '9999', '50000'])}"))
    if rng.random() < 0.3:
        pairs.append(("in_stock", rng.choice(["true", "false"])))
    if rng.random() < 0.3 and some["attributes"]:
        name, _, value = rng.choice(some["attributes"]).partition("=")
        pairs.append((f"attr.{name}", value))
    if rng.random() < 0.2 and some.get("number"):
        name = rng.choice(sorted(some["number"]))
        pairs.append((f"number.{name}", f"..{some['number'][name][0]}"))
    if rng.random() < 0.2:
        pairs.append(("created_at", f"{some['created_at'][:10]}.."))
    return pairs


async def test_no_text_scores_above_its_ceiling(many: Catalogue) -> None:
    synonyms = read(FILE.read_text("utf-8"))
    vocabulary = Counter(word for each in many.sources.values() for word in each["title"].split())
    words = [word for word, _ in vocabulary.most_common()]
    rng = random.Random(3)
    async with Engine([many.server.url], timeout=30) as engine:
        for _ in range(60):
            q = " ".join(rng.choices(words[-200:] + words[:50], k=rng.randrange(1, 6)))
            asked = Asked(parse(quote(q, safe=" "), FIELDS))
            for matching in Matching:
                query = text_query(asked.clauses, None, WEIGHTS, synonyms, matching=matching)
                best = await engine.search(f"{many.prefix}products", {"query": query, "size": 1})
                assert (best.hits.max_score or 0.0) < ceiling(asked, WEIGHTS)


async def test_whoever_matches_exactly_stands_before_all_others(many: Catalogue) -> None:
    rng = random.Random(4)
    sources = list(many.sources.values())
    async with many.api(enough=1000) as api:
        for _ in range(40):
            words = rng.choice(sources)["title"].split()
            q = " ".join(f"{word}" for word in rng.sample(words, min(2, len(words))))
            if '"' in q or ":" in q or "-" in q:
                continue
            loose = await api.search(urlencode({"q": q, "limit": 100, "facets": "none"}))
            assert loose["matching"] == Matching.LOOSELY.value
            exact = {each["id"] for each in (await api_exact(many, q))["hits"]}
            places = [each["id"] in exact for each in loose["hits"]]
            assert places == sorted(places, reverse=True), q


async def api_exact(catalogue: Catalogue, q: str) -> Any:
    """Only what matches exactly."""
    async with catalogue.api(enough=1) as api:
        return await api.search(urlencode({"q": q, "limit": 100, "facets": "none"}))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(max_size=40)
        | st.text('ab1:"-*\\ /=^~()[]{}<>&|!', max_size=40)
        | st.sampled_from(
            ["title:", "sku:1", "brand:x*", '"kettle', "911 997", "-kettle", "x" * 300, "\x00", "😀 lamp"]
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["relevance", "price"]),
)
def test_whatever_is_typed_the_engine_understands_it(hand: Catalogue, parts: list[str], sort: str) -> None:
    async def ask() -> None:
        for path, more in (("/v1/search", f"&sort={sort}&highlight=1"), ("/v1/suggest", "")):
            answer = await running["api"].get(path, urlencode({"q": " ".join(parts)}, errors="replace") + more)
            assert answer.status in (200, 422), answer.body
            if answer.status == 422:
                assert answer.json.get("reason") != "engine", parts
            else:
                assert answer.json.get("degraded", []) == []

    running = live_api(hand)
    running["loop"].run_until_complete(ask())


_LIVE: dict[str, Any] = {}


def live_api(catalogue: Catalogue) -> dict[str, Any]:
    """One API for all examples; its loop is closed with the test's process."""
    if not _LIVE:
        loop = asyncio.new_event_loop()
        context = catalogue.api()
        _LIVE.update(loop=loop, context=context, api=loop.run_until_complete(context.__aenter__()))
    return _LIVE


def test_the_api_of_the_examples_stops_cleanly() -> None:
    if _LIVE:
        _LIVE["loop"].run_until_complete(_LIVE["context"].__aexit__(None, None, None))
        _LIVE["loop"].close()
        _LIVE.clear()
