"""The search page: what it shows, where its links lead, and that nothing foreign runs in it."""

from __future__ import annotations

import html
import re
from uuid import UUID

import pytest

from services.kit import ids
from services.search.engine import EngineDown, Hit
from services.search.ladder import Missing
from services.search.page import DEGRADED
from tests.unit.search.fake_engine import FakeEngine, api_running, source

FIRST = ids.encode("prd", UUID(int=1))


async def page(query: str = "", engine: FakeEngine | None = None, status: int = 200) -> str:
    async with api_running(engine) as api:
        answer = await api.get("/", query)
        assert answer.status == status
        assert answer.headers["content-type"].startswith("text/html")
        return answer.body.decode()


async def test_it_shows_products_facets_and_how_many_there_are() -> None:
    text = await page("q=lamp")
    assert "30 products" in text
    assert "Castou lamp 1" in text
    assert "1.00 EUR" in text
    assert re.search(r'type="checkbox" name="brand" value="Castou"', text)
    assert re.search(r'type="radio" name="price" value="0..2499"', text)
    assert "Why is Castou lamp 1 here?" in text


async def test_its_script_and_style_are_the_only_ones_that_may_run() -> None:
    async with api_running() as api:
        policy = (await api.get("/", "q=lamp")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy


async def test_what_was_typed_is_shown_as_text() -> None:
    text = await page("q=%3Cscript%3Ealert(1)%3C/script%3E&brand=%22%3E%3Cscript%3E")
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert html.escape("<script>alert(1)</script>") in text


async def test_markup_in_products_is_shown_as_text_and_what_matched_is_marked() -> None:
    class Highlighting(FakeEngine):
        def found(self, index, body):  # type: ignore[no-untyped-def]  # as FakeEngine's
            found = super().found(index, body)
            for place, hit in enumerate(found.hits.hits):
                marked = {"title": ["<b>\ue000lamp\ue001"], "description_en": ["It <i>\ue000shines\ue001"]}
                found.hits.hits[place] = Hit(hit.id, index, 1.0, hit.source, hit.sort, marked)
            return found

    text = await page("q=lamp", Highlighting([source(1, title="<b>lamp")]))
    assert "&lt;b&gt;<mark>lamp</mark>" in text
    assert "It &lt;i&gt;<mark>shines</mark>" in text
    assert "<b>lamp" not in text


async def test_the_next_page_and_the_explanation_are_links_that_work() -> None:
    async with api_running() as api:
        first = (await api.get("/", "q=lamp&sort=price")).body.decode()
        link = re.search(r'href="/\?([^"]+)" rel="next"', first)
        assert link is not None
        following = (await api.get("/", html.unescape(link[1]))).body.decode()
        assert "10 more products" in following
        why = re.search(r'href="/\?([^"]+)#why"', first)
        assert why is not None
        explained = (await api.get("/", html.unescape(why[1]))).body.decode()
        assert "Why Castou lamp 1 is where it is" in explained
        assert "nothing is scored" in explained


async def test_a_query_that_cannot_be_read_is_shown_with_its_place() -> None:
    text = await page("q=red+%22shoes&brand=Castou", status=422)
    assert "This quote is never closed." in text
    assert 'role="alert"' in text
    assert "red &#34;shoes\n    ^" in text
    assert '<input type="hidden" name="brand" value="Castou">' in text


async def test_a_better_spelling_is_offered() -> None:
    engine = FakeEngine([source(1)], suggest={"word0": [{"options": [{"text": "kettle"}]}]})
    text = await page("q=kettel&brand=Castou&cursor=", engine)
    assert 'Did you mean <a href="/?q=kettle&amp;brand=Castou">kettle</a>?' in text


async def test_a_silent_engine_leaves_popular_products_and_a_note() -> None:
    async with api_running() as api:
        api.engine.error = EngineDown("silent")
        answer = await api.get("/", "q=lamp")
        text = answer.body.decode()
    assert answer.status == 200
    assert html.escape(DEGRADED["popular"]) in text
    assert "Not available at the moment." in text


async def test_everything_that_may_be_missing_has_a_sentence() -> None:
    assert set(DEGRADED) == {each.value for each in Missing}


@pytest.mark.parametrize("query", ["sort=", "lang=&q=lamp", "fields=secret&facets=no&limit=9999"])
async def test_empty_fields_of_the_form_and_what_the_page_decides_itself_are_ignored(query: str) -> None:
    assert "30 products" in await page(query)


async def test_an_unknown_parameter_is_refused_in_words() -> None:
    assert "other parameters were sent" in await page("colour=red", status=422)


async def test_every_control_has_a_name_and_the_results_are_announced() -> None:
    text = await page("q=lamp")
    assert '<html lang="en">' in text
    assert 'role="status"' in text
    for control in re.findall(r'<(?:input|select)[^>]*\bid="([^"]+)"', text):
        assert f'for="{control}"' in text
    assert len(re.findall(r"<fieldset><legend>", text)) == text.count("<fieldset>")
