"""The query side on an engine that does what the test says: sharing, memory, pages, the ladder, refusals."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit import ids
from services.search.engine import EngineBusy, EngineDown, EngineRefused
from tests.stack import until
from tests.unit.search.fake_engine import INDEX, NEXT_INDEX, FakeEngine, api_running, soon, source, turns


async def test_a_search_answers_hits_facets_and_what_it_lacks() -> None:
    async with api_running() as api:
        answer = await api.get("/v1/search", "q=lamp&limit=2")
        assert answer.status == 200
        assert answer.headers["x-cache"] == "miss"
        found = answer.json
        assert [each["title"] for each in found["hits"]] == ["Castou lamp 1", "Castou lamp 2"]
        assert found["hits"][0]["id"] == ids.encode("prd", UUID(int=1))
        assert (found["degraded"], found["matching"], found["index"]) == ([], "exactly", INDEX)
        assert found["total"] == {"value": 30, "relation": "eq"}
        assert {each["parameter"] for each in found["facets"]} == {
            "brand",
            "category",
            "price",
            "in_stock",
            "attr.colour",
        }


async def test_the_same_question_is_answered_from_memory() -> None:
    async with api_running() as api:
        first = await api.get("/v1/search", "q=lamp")
        asked = len(api.engine.searches)
        again = await api.get("/v1/search", "q=%20LAMP%20")
        assert again.body == first.body
        assert again.headers["x-cache"] == "hit"
        assert len(api.engine.searches) == asked


async def test_facets_are_remembered_for_all_pages_and_orders() -> None:
    async with api_running() as api:
        await api.search("q=lamp&limit=5")
        await api.search("q=lamp&limit=7")
        assert len(api.engine.facet_searches) == 1
        await api.search("q=lamp&limit=7&brand=Castou")
        assert len(api.engine.facet_searches) == 2


async def test_no_cache_asks_the_engine_again() -> None:
    async with api_running() as api:
        await api.search("q=lamp&facets=none")
        await api.get("/v1/search", "q=lamp&facets=none", {"Cache-Control": "no-cache"})
        assert len(api.engine.hit_searches) == 2


async def test_fifty_who_ask_at_the_same_time_are_one_search() -> None:
    async with api_running() as api:
        api.engine.gate = asyncio.Event()
        asking = [asyncio.create_task(api.search("q=hot&facets=none")) for _ in range(50)]
        await soon(lambda: api.engine.searches)
        await turns()
        api.engine.gate.set()
        answers = await asyncio.gather(*asking)
        assert len(api.engine.hit_searches) == 1
        assert all(each == answers[0] for each in answers)


async def test_after_a_swap_nothing_old_is_shown_and_the_hot_query_is_one_search() -> None:
    async with api_running(alias_seconds=0.001) as api:
        await api.search("q=hot&facets=none")
        api.engine.documents = [source(99)]
        api.engine.indices = (NEXT_INDEX,)

        async def swapped() -> bool:
            return bool((await api.search("q=other&facets=none"))["index"] == NEXT_INDEX)

        await until(swapped)
        api.engine.searches.clear()
        answers = await asyncio.gather(*(api.search("q=hot&facets=none&sort=price") for _ in range(20)))
        assert len(api.engine.hit_searches) == 1
        assert all(each["hits"][0]["title"] == "Castou lamp 99" for each in answers)
        assert (await api.search("q=hot&facets=none"))["hits"][0]["title"] == "Castou lamp 99"


async def test_pages_follow_each_other_without_a_repetition() -> None:
    async with api_running() as api:
        seen: list[str] = []
        page = await api.search("q=lamp&limit=7")
        while True:
            seen += [each["id"] for each in page["hits"]]
            if "next_cursor" not in page:
                break
            page = await api.search(urlencode({"q": "lamp", "limit": 7, "cursor": page["next_cursor"]}))
            assert "total" not in page
            assert "facets" not in page
        assert len(seen) == len(set(seen)) == 30


async def test_a_page_after_a_swap_reads_the_index_that_the_first_one_read() -> None:
    async with api_running() as api:
        page = await api.search("q=lamp&limit=7")
        api.engine.indices = (INDEX, NEXT_INDEX)
        await api.search(urlencode({"q": "lamp", "limit": 7, "cursor": page["next_cursor"]}))
        assert api.engine.searches[-1][0] == INDEX


async def test_a_page_of_an_index_that_is_gone_says_so() -> None:
    async with api_running() as api:
        page = await api.search("q=lamp&limit=7")
        api.engine.indices = (NEXT_INDEX,)
        answer = await api.get("/v1/search", urlencode({"q": "lamp", "limit": 7, "cursor": page["next_cursor"]}))
        assert answer.status == 410
        assert answer.json["type"] == "urn:lab:cursor_gone"


async def test_a_product_that_comes_back_on_a_later_page_is_left_out() -> None:
    async with api_running() as api:
        page = await api.search("q=lamp&limit=7&facets=none")
        documents = api.engine.documents
        # A write moved the first product to behind the place that the page ended at.
        api.engine.documents = [*documents[1:10], documents[0], *documents[10:]]
        following = await api.search(
            urlencode({"q": "lamp", "limit": 7, "facets": "none", "cursor": page["next_cursor"]})
        )
        shown = [each["id"] for each in (*page["hits"], *following["hits"])]
        assert len(shown) == len(set(shown))


async def test_first_pages_of_an_index_that_is_gone_read_the_current_one() -> None:
    async with api_running() as api:
        api.engine.indices = (NEXT_INDEX,)
        assert len((await api.search("q=lamp"))["hits"]) == 20


async def test_with_few_exact_results_typos_are_allowed_and_better_words_named() -> None:
    engine = FakeEngine([source(1)], suggest={"word1": [{"text": "kettel", "options": [{"text": "kettle"}]}]})
    async with api_running(engine) as api:
        found = await api.search("q=Red%20Kettel&facets=none")
        assert found["matching"] == "loosely"
        assert found["did_you_mean"] == "Red kettle"
        exact, loose = api.engine.hit_searches
        assert "fuzziness" not in msgspec.json.encode(exact).decode()
        assert "fuzziness" in msgspec.json.encode(loose).decode()


async def test_by_price_no_word_may_be_missing() -> None:
    async with api_running(FakeEngine([])) as api:
        assert (await api.search("q=red%20kettle&sort=price&facets=none"))["matching"] == "every_word"


async def test_an_engine_that_falls_silent_is_covered_by_what_is_remembered() -> None:
    async with api_running(cache_seconds=10, cache_jitter=0) as api:
        await api.search("q=lamp")
        api.clock.seconds += 11
        api.engine.error = EngineDown("silent")
        answer = await api.get("/v1/search", "q=lamp")
        assert answer.headers["x-cache"] == "stale"
        assert answer.json["degraded"] == ["facets", "cached"]
        assert len(answer.json["hits"]) == 20


@pytest.mark.parametrize("error", [EngineDown("silent"), EngineBusy("full")])
async def test_without_anything_remembered_popular_products_of_the_same_filters_are_shown(error: Any) -> None:
    async with api_running() as api:
        api.engine.error = error
        found = await api.search("q=lamp&price=..500&in_stock=true&limit=3")
        assert found["matching"] == "popular"
        assert found["degraded"] == ["facets", "popular"]
        assert len(found["hits"]) == 3
        assert all(each["price"] <= 500 for each in found["hits"])


@pytest.mark.parametrize(
    ("error", "code"), [(EngineDown("silent"), "engine_unavailable"), (EngineBusy("full"), "overloaded")]
)
async def test_a_second_page_has_no_substitute(error: Any, code: str) -> None:
    async with api_running() as api:
        page = await api.search("q=lamp&limit=7")
        api.engine.error = error
        answer = await api.get("/v1/search", urlencode({"q": "lamp", "limit": 7, "cursor": page["next_cursor"]}))
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json["type"] == f"urn:lab:{code}"
        assert "silent" not in answer.body.decode()


async def test_before_the_engine_has_ever_answered_it_is_503() -> None:
    async with api_running(FakeEngine(indices=())) as api:
        assert (await api.get("/health/ready")).status == 503
        answer = await api.get("/v1/search", "q=lamp")
        assert (answer.status, answer.json["type"]) == (503, "urn:lab:engine_unavailable")


async def test_a_partial_answer_is_marked_and_not_remembered() -> None:
    async with api_running() as api:
        api.engine.partial = True
        assert (await api.search("q=lamp"))["degraded"] == ["facets", "partial"]
        api.engine.partial = False
        assert (await api.search("q=lamp"))["degraded"] == []


async def test_when_most_slots_are_in_use_facets_are_left_out_and_what_is_found_is_remembered() -> None:
    async with api_running(engine_slots=1, engine_queue=10) as api:
        api.engine.gate = asyncio.Event()
        first = asyncio.create_task(api.search("q=one&facets=none"))
        await soon(lambda: api.engine.searches)
        second = asyncio.create_task(api.search("q=two"))
        await turns()
        api.engine.gate.set()
        assert (await first)["degraded"] == []
        assert (await second)["degraded"] == ["facets"]
        assert (await api.search("q=two"))["degraded"] == []
        assert len(api.engine.facet_searches) == 1


async def test_beyond_the_queue_searches_are_shed_to_what_is_popular() -> None:
    async with api_running(engine_slots=1, engine_queue=1) as api:
        api.engine.gate = asyncio.Event()
        asking = [asyncio.create_task(api.search(f"q=word{number}&facets=none")) for number in range(6)]
        await turns()
        api.engine.gate.set()
        answers = await asyncio.gather(*asking)
        popular = [each for each in answers if each["matching"] == "popular"]
        assert len(popular) == 4
        assert all(each["degraded"] == ["popular"] for each in popular)


async def test_beyond_the_bound_of_requests_at_once_one_is_told_at_once() -> None:
    async with api_running(max_in_flight=2) as api:
        api.engine.gate = asyncio.Event()
        asking = [asyncio.create_task(api.get("/v1/search", f"q=word{number}")) for number in range(3)]
        await turns()
        assert asking[2].done()
        refused = await asking[2]
        assert (refused.status, refused.json["reason"]) == (503, "too_many_in_flight")
        assert refused.headers["retry-after"] == "1"
        api.engine.gate.set()
        assert [(await each).status for each in asking[:2]] == [200, 200]
        assert (await api.get("/v1/search")).status == 200


async def test_a_client_above_its_rate_waits_and_others_do_not() -> None:
    async with api_running(client_rate=0.5, client_burst=2, client_header="X-Client") as api:
        statuses = [(await api.get("/v1/search", "", {"X-Client": "a"})).status for _ in range(3)]
        refused = await api.get("/v1/suggest", "q=l", {"X-Client": "a"})
        assert statuses == [200, 200, 429]
        assert (refused.status, refused.headers["retry-after"]) == (429, "2")
        assert (await api.get("/v1/search", "", {"X-Client": "b"})).status == 200
        api.clock.seconds += 2
        assert (await api.get("/v1/search", "", {"X-Client": "a"})).status == 200


async def test_a_deadline_that_is_over_is_504_and_garbage_is_400() -> None:
    async with api_running() as api:
        assert (await api.get("/v1/search", "", {"Request-Timeout-Ms": "0"})).status == 504
        assert (await api.get("/v1/search", "", {"Request-Timeout-Ms": "soon"})).status == 400


async def test_whoever_has_no_time_for_the_engine_gets_what_is_there() -> None:
    async with api_running() as api:
        api.engine.gate = asyncio.Event()
        found = await api.get("/v1/search", "q=lamp", {"Request-Timeout-Ms": "60"})
        assert found.status == 200
        assert found.json["matching"] == "popular"


@pytest.mark.parametrize(
    ("query", "code", "at"),
    [
        ("q=%22open", "invalid_query", "q"),
        ("q=*shoe", "invalid_query", "q"),
        ("q=" + "x" * 513, "invalid_query", "q"),
        ("q=" + "a+" * 33, "invalid_query", "q"),
        ("q=price:5", "invalid_query", "q"),
        ("limit=0", "invalid_parameter", "limit"),
        ("limit=ten", "invalid_parameter", "limit"),
        ("sort=random", "invalid_parameter", "sort"),
        ("lang=xx", "invalid_parameter", "lang"),
        ("price=5", "invalid_parameter", "price"),
        ("price=9..5", "invalid_parameter", "price"),
        ("price=1e3..", "invalid_parameter", "price"),
        ("price=1..2&price=3..4", "invalid_parameter", "price"),
        ("created_at=yesterday..", "invalid_parameter", "created_at"),
        ("number.weight=a..", "invalid_parameter", "number.weight"),
        ("in_stock=maybe", "invalid_parameter", "in_stock"),
        ("brand=", "invalid_parameter", "brand"),
        ("brand=a%00b", "invalid_parameter", "brand"),
        ("brand=" + "x" * 201, "invalid_parameter", "brand"),
        ("fields=secret", "invalid_parameter", "fields"),
        ("facets=everything", "invalid_parameter", "facets"),
        ("highlight=yes", "invalid_parameter", "highlight"),
        ("explain=1", "invalid_parameter", "id"),
        ("explain=1&id=prd_x", "invalid_parameter", "id"),
        ("id=prd_x", "invalid_parameter", "id"),
        ("user=" + "u" * 65, "invalid_parameter", "user"),
        ("ranking=best", "invalid_parameter", "ranking"),
        ("colour=red", "invalid_parameter", ""),
        ("attr.Colour=red", "invalid_parameter", ""),
        ("q=a&q=b", "invalid_parameter", "q"),
        ("cursor=garbage", "invalid_cursor", "cursor"),
        ("cursor=" + "A" * 5000, "invalid_cursor", "cursor"),
        ("cursor=%C3%A9", "invalid_cursor", "cursor"),
    ],
)
async def test_bad_input_is_told_where_and_why(query: str, code: str, at: str) -> None:
    async with api_running() as api:
        answer = await api.get("/v1/search", query)
        assert answer.status == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"] == f"urn:lab:{code}"
        assert answer.json["at"] == at
        assert answer.json["detail"].endswith(".")
        assert api.engine.searches == []


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=101", "huge_page"),
        ("limit=999999999999999999999", "huge_page"),
        ("facet_size=5000", "huge_page"),
        ("&".join(f"brand=b{number}" for number in range(51)), "long_list"),
        ("&".join(f"brand=b{number}" for number in range(201)), "long_list"),
        ("&".join(f"attr.a{number}=1" for number in range(21)), "many_filters"),
        ("category=" + "/".join("abcdefghijkl"), "deep_nesting"),
        ("q=" + quote("x " * 3000), "long_query"),
    ],
)
async def test_what_would_cost_too_much_is_refused_with_its_reason(query: str, reason: str) -> None:
    async with api_running() as api:
        answer = await api.get("/v1/search", query)
        assert answer.status == 422
        assert (answer.json["type"], answer.json["reason"]) == ("urn:lab:too_expensive", reason)
        assert api.engine.searches == []


async def test_what_the_engine_refuses_is_not_our_failure() -> None:
    async with api_running() as api:
        api.engine.error = EngineRefused("maxClauseCount is set to 1024", "too_many_clauses")
        answer = await api.get("/v1/search", "q=lamp")
        assert (answer.status, answer.json["reason"]) == (422, "engine")
        assert "1024" not in answer.body.decode()


async def test_a_cursor_of_another_query_is_refused() -> None:
    async with api_running() as api:
        page = await api.search("q=lamp&limit=7")
        for other in ({"q": "desk"}, {"q": "lamp", "brand": "Castou"}, {"q": "lamp", "sort": "price"}):
            answer = await api.get("/v1/search", urlencode({**other, "cursor": page["next_cursor"]}))
            assert (answer.status, answer.json["type"]) == (422, "urn:lab:invalid_cursor")


async def test_fields_are_what_was_asked_for() -> None:
    async with api_running() as api:
        found = await api.search("fields=title,description,attributes,created_at&limit=1&facets=none")
        assert set(found["hits"][0]) == {"id", "score", "title", "description", "attributes", "created_at"}
        assert found["hits"][0]["attributes"] == {"colour": ["red"]}
        assert found["hits"][0]["description"] == "It <b>shines</b>."


async def test_suggestions_name_brands_categories_and_products() -> None:
    async with api_running() as api:
        answer = await api.get("/v1/suggest", "q=ca&limit=3")
        found = answer.json["suggestions"]
        assert found[0] == {"text": "Castou", "kind": "brand", "filter": "Castou", "count": 30}
        assert [each["kind"] for each in found] == ["brand", "product", "product"]
        asked = len(api.engine.searches)
        assert (await api.get("/v1/suggest", "q=CA&limit=3")).body == answer.body
        assert len(api.engine.searches) == asked


async def test_suggestions_go_on_from_what_is_popular_when_the_engine_is_silent() -> None:
    async with api_running() as api:
        api.engine.error = EngineDown("silent")
        found = (await api.get("/v1/suggest", "q=lam")).json
        assert found["degraded"] == ["popular"]
        assert found["suggestions"][0]["kind"] == "product"


async def test_nothing_typed_suggests_what_is_popular() -> None:
    async with api_running() as api:
        found = (await api.get("/v1/suggest")).json
        assert len(found["suggestions"]) == 8
        assert api.engine.searches == []


@pytest.mark.parametrize("query", ["limit=0", "limit=21", "lang=xx", "brand=a", "q=" + "x" * 201, "q=a&q=b"])
async def test_bad_input_to_suggest_is_422(query: str) -> None:
    async with api_running() as api:
        assert (await api.get("/v1/suggest", query)).status == 422


async def test_openapi_declares_every_answer() -> None:
    async with api_running() as api:
        paths = (await api.get("/openapi.json")).json["paths"]
        assert set(paths) == {"/v1/search", "/v1/suggest", "/v1/clicks", "/v1/rules", "/v1/rules/{rule_id}"}
        declared = paths["/v1/search"]["get"]
        assert {"200", "400", "410", "422", "429", "503", "504"} <= set(declared["responses"])
        assert {each["name"] for each in declared["parameters"]} >= {"q", "cursor", "price", "attr.{name}"}


NAMES = st.sampled_from(
    ["q", "brand", "category", "price", "created_at", "attr.colour", "number.weight", "sort", "limit", "cursor", "facets",
     "fields", "highlight", "explain", "id", "lang", "user", "ranking", "in_stock", "facet_size"]
)  # fmt: skip


@settings(max_examples=settings().max_examples * 3 // 2, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=120)
    | st.lists(st.tuples(NAMES, st.text(max_size=30) | st.text('ab1:"-*\\. /', max_size=20)), max_size=4).map(
        lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
    ),
    st.sampled_from(["/v1/search", "/v1/suggest", "/"]),
)
def test_no_bytes_make_it_fail(query: bytes, path: str) -> None:
    async def ask() -> int:
        async with api_running() as api:
            return (await api.get(path, query.replace(b"#", b"%23"))).status

    assert asyncio.run(ask()) in (200, 422)
