"""The engine's query: what must be in it and what must not. What it finds is tested against the engine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.query.build import (
    FIELDS,
    LARGEST_TERM_SCORE,
    MATCH_NONE,
    Asked,
    Matching,
    ceiling,
    exact_filter,
    lower_tier,
    matching_query,
    text_query,
    whole_query,
)
from services.search.query.parser import QueryError, parse
from services.search.query.synonyms import Synonyms, read
from services.search.ranking import MOST_SPREAD, RANKINGS, Context
from services.search.ranking.ranking import WEIGHTS
from services.search.ranking.rules import MOST_PINNED, PIN

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = read("en: running shoes, trainers\nen: kettle, boiler")


def asked(q: str, language: str | None = None) -> Asked:
    return Asked(parse(q, FIELDS), language)


def text(q: str, language: str | None = "en", **options: Any) -> str:
    found = text_query(asked(q).clauses, language, WEIGHTS, WORDS, **options)
    return msgspec.json.encode(found).decode()


def test_long_words_may_have_typos_short_ones_and_numbers_may_not() -> None:
    assert "AUTO:4,8" in text("kettle")
    for exempt in ("red", "911", "XR-2100", "K55", "sku:KETTLE", '"kettle"', "-kettle", "kettl*"):
        assert "fuzziness" not in text(exempt)


def test_synonyms_do_not_switch_typo_tolerance_off() -> None:
    found = text("kettle")
    assert "boiler" in found
    assert "fuzziness" in found


def test_a_misspelt_word_finds_synonyms_too() -> None:
    assert "boiler" in text("ketle")
    assert "boiler" not in text("ketle", matching=Matching.EXACTLY)


def test_a_language_narrows_the_fields() -> None:
    assert "title_de" not in text("kettle", "en")
    assert all(f"title_{language}" in text("kettle", None) for language in ("en", "de", "fr", "es"))


def test_numbers_are_looked_up_as_codes_written_together() -> None:
    assert '"911997"' in text("911 997")
    assert '"xr2100"' in text("nice xr 2100")
    assert "model.norm" in text("K55")
    assert ".norm" not in text("kettle")


@pytest.mark.parametrize("q", ["***", "!!! :-)", "😀", '"…"', "brand:…"])
def test_a_query_without_any_word_finds_nothing_rather_than_everything(q: str) -> None:
    assert (
        MATCH_NONE
        in (
            text_query(asked(q).clauses, None, WEIGHTS, WORDS),
            exact_filter(asked(q), WORDS),
        )
        or "match_none" in text(q, None)
        or not asked(q).clauses
    )


def test_only_exclusions_leave_the_rest() -> None:
    found = text_query(asked("-red").clauses, "en", WEIGHTS, WORDS)
    assert found["bool"]["must"] == [{"match_all": {}}]
    assert len(found["bool"]["must_not"]) == 1


def test_exactly_there_are_neither_typos_nor_descriptions_nor_a_tier_that_all_would_have() -> None:
    query = whole_query(asked("black kettle"), RANKINGS["boosted"], Context(NOW), WORDS, matching=Matching.EXACTLY)
    encoded = msgspec.json.encode(query).decode()
    assert "fuzziness" not in encoded
    assert "description" not in encoded
    assert "tier:exact" not in encoded
    loose = msgspec.json.encode(whole_query(asked("black kettle"), RANKINGS["boosted"], Context(NOW), WORDS)).decode()
    assert all(each in loose for each in ("fuzziness", "description", "tier:exact"))


@pytest.mark.parametrize(("words", "needed"), [(1, 1), (2, 1), (4, 3), (5, 3), (8, 6)])
def test_of_several_words_few_may_be_missing(words: int, needed: int) -> None:
    q = " ".join(f"word{chr(97 + number)}" for number in range(words))
    found = text_query(asked(q).clauses, "en", WEIGHTS, Synonyms())
    assert found["bool"]["must"][0]["bool"]["minimum_should_match"] == needed
    every = text_query(asked(q).clauses, "en", WEIGHTS, Synonyms(), matching=Matching.EVERY_WORD)
    assert words == 1 or len(every["bool"]["must"][0]["bool"]["must"]) == words


@given(
    st.lists(
        st.sampled_from(["kettle", "911", "red", "xr-2100", '"red shoes"', "brand:nord", "sho*"]),
        min_size=1,
        max_size=30,
    )
)
def test_the_tiers_are_above_all_that_boosts_make_of_text_and_below_a_pin(words: list[str]) -> None:
    wanted = asked(" ".join(words))
    largest = ceiling(wanted, WEIGHTS)
    assert lower_tier(wanted, WEIGHTS) >= MOST_SPREAD * largest
    assert largest >= len(words) * LARGEST_TERM_SCORE * max(WEIGHTS.values())
    # Scores are 32-bit floats: 24 bits hold the highest pin and still tell the tiers apart.
    assert 3 * lower_tier(wanted, WEIGHTS) + MOST_SPREAD * largest < PIN
    assert PIN * MOST_PINNED < 2**25


@given(st.text(max_size=60) | st.text('ab1:"-*\\ ', max_size=40), st.sampled_from([None, "en", "de"]))
def test_whatever_is_typed_becomes_json_or_one_error(q: str, language: str | None) -> None:
    try:
        wanted = asked(q, language)
    except QueryError:
        return
    for matching in Matching:
        query = whole_query(wanted, RANKINGS["boosted"], Context(NOW), WORDS, matching=matching)
        assert msgspec.json.decode(msgspec.json.encode(query)) == query
        msgspec.json.encode(matching_query(wanted, WORDS, matching, WEIGHTS))
