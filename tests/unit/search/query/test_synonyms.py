"""What people also say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.query.synonyms import (
    FILE,
    Alternatives,
    SynonymError,
    SynonymFile,
    Synonyms,
    distance,
    fold,
    read,
    typos_allowed,
)

TABLE = read(
    """
    # shoes
    en: running shoes, trainers, sneakers
    en: jeans => trousers
    de: laufschuhe, turnschuhe
    *: tv, television
    *: 2 tb => 2048 gb
    """
)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Größe", "grosse"),
        ("CAFÉ-crème", "cafe creme"),
        ("chef's", "chef s"),
        ("XR-2100", "xr 2100"),
        ("___", ""),
        ("", ""),
    ],
)
def test_folding_leaves_letters_and_digits(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_what_means_the_same_finds_each_other() -> None:
    assert TABLE.of("Trainers", "en") == Alternatives(("running shoes", "sneakers"))
    assert TABLE.of("running  shoes", "en").same == ("trainers", "sneakers")


def test_an_arrow_leads_one_way() -> None:
    assert TABLE.of("jeans", "en").same == ("trousers",)
    assert not TABLE.of("trousers", "en")


def test_a_language_has_its_own_words_and_those_of_all() -> None:
    assert not TABLE.of("trainers", "de")
    assert TABLE.of("tv", "de").same == ("television",)
    assert TABLE.of("laufschuhe", None).same == ("turnschuhe",)


def test_a_number_written_together_with_its_unit_is_the_same_as_both_apart() -> None:
    assert TABLE.of("2200W", "en") == Alternatives(("2200 w",))
    assert TABLE.of("2TB", "en").same == ("2 tb", "2048 gb")
    assert TABLE.of("2 TB", "en").same == ("2048 gb",)


@pytest.mark.parametrize("word", ["2200", "k55", "911997", "5g4", "12345678901w", "2200watts", "w"])
def test_other_words_with_digits_stay_as_they_are(word: str) -> None:
    assert not TABLE.of(word, "en")


def test_a_misspelt_word_finds_the_synonyms_of_what_was_meant() -> None:
    found = TABLE.of("sneekers", "en")
    assert found.same == ()
    assert set(found.guessed) == {"sneakers", "running shoes", "trainers"}


@pytest.mark.parametrize("word", ["tx", "trainors bag", "xneakers", "sn3akers"])
def test_short_words_numbers_and_other_beginnings_are_not_guessed(word: str) -> None:
    assert not TABLE.of(word, "en")


def test_the_longest_expression_counts() -> None:
    spans = list(TABLE.spans(["black", "running", "shoes", "jeans"], "en"))
    assert [(start, end, found.same) for start, end, found in spans] == [
        (0, 1, ()),
        (1, 3, ("trainers", "sneakers")),
        (3, 4, ("trousers",)),
    ]


@given(st.lists(st.sampled_from(["black", "running", "shoes", "jeans", "x1", "tv"]), max_size=12))
def test_spans_cover_every_word_once(words: list[str]) -> None:
    places = [place for start, end, _ in TABLE.spans(words, None) for place in range(start, end)]
    assert places == list(range(len(words)))


@pytest.mark.parametrize(
    ("word", "typos"), [("", 0), ("red", 0), ("blue", 1), ("seventy", 1), ("sneakers", 2), ("model911", 0)]
)
def test_longer_words_may_have_more_typos_and_numbers_none(word: str, typos: int) -> None:
    assert typos_allowed(word) == typos


@pytest.mark.parametrize(
    ("left", "right", "typos"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("abc", "acb", 1),
        ("kettle", "ketle", 1),
        ("kettle", "kettel", 1),
        ("abcd", "dcba", 3),
    ],
)
def test_a_swap_counts_as_one_typo(left: str, right: str, typos: int) -> None:
    assert distance(left, right) == distance(right, left) == typos


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_only_equal_words_have_no_typo(left: str, right: str) -> None:
    assert (distance(left, right) == 0) == (left == right)
    assert distance(left, right) <= max(len(left), len(right))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trainers, sneakers", "Line 1"),
        ("en: a, b\nxx: a, b", "Line 2"),
        ("en: alone", "fewer than two"),
        ("en: a,", "empty"),
        ("en: => b", "empty"),
        ("en: a b c d e f, g", "more than 5 words"),
    ],
)
def test_a_line_that_says_nothing_is_named(text: str, says: str) -> None:
    with pytest.raises(SynonymError, match=says):
        read(text)


def test_the_file_of_the_repository_is_read_whole() -> None:
    table = read(FILE.read_text("utf-8"))
    assert set(table.table) == {"en", "de", "fr", "es", "*"}
    assert "chaussures de course" in table.of("baskets", "fr").same


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_the_old_words(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("en: a, b")
    file = SynonymFile(path)
    assert not file.refresh()
    path.write_text("en: a, b, c")
    assert file.refresh()
    assert file.current.of("a", "en").same == ("b", "c")
    path.write_text("nonsense!")
    with pytest.raises(SynonymError):
        file.refresh()
    assert file.current.of("a", "en").same == ("b", "c")
    assert not file.refresh()


def test_no_table_has_no_synonyms() -> None:
    assert not Synonyms().of("trainers", "en")
