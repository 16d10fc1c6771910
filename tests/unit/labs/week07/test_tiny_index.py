"""The small index: its codes are Lucene's, its postings survive, its order is BM25's."""

from __future__ import annotations

from collections import Counter
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.week07.tiny_index import K1, B, Postings, TinyIndex, byte_length, length_byte, terms

WORDS = st.lists(st.sampled_from(["red", "shoe", "lamp", "x100", "a"]), max_size=60)


@given(st.integers(min_value=0, max_value=2**31 - 1))
def test_a_coded_length_is_at_most_an_eighth_too_short(length: int) -> None:
    decoded = byte_length(length_byte(length))
    assert 0 <= length_byte(length) <= 255
    assert decoded <= length <= decoded + max(decoded - 24, 0) / 8


@pytest.mark.parametrize(
    ("length", "code", "decoded"), [(0, 0, 0), (39, 39, 39), (40, 40, 40), (41, 40, 40), (42, 41, 42)]
)
def test_lengths_below_forty_are_exact(length: int, code: int, decoded: int) -> None:
    assert (length_byte(length), byte_length(code)) == (code, decoded)


@given(st.integers(min_value=0, max_value=2**31 - 2))
def test_a_longer_document_never_gets_a_smaller_code(length: int) -> None:
    assert length_byte(length) <= length_byte(length + 1)


@given(st.dictionaries(st.integers(0, 3_000_000), st.integers(1, 100_000)))
def test_postings_come_back_as_they_were_written(written: dict[int, int]) -> None:
    postings = Postings()
    for document in sorted(written):
        postings.append(document, written[document])
    assert list(postings) == sorted(written.items())


@given(st.lists(WORDS, min_size=1, max_size=30), WORDS.filter(bool))
def test_scores_are_those_of_the_formula(documents: list[list[str]], query: list[str]) -> None:
    index = TinyIndex()
    for words in documents:
        index.add(" ".join(words))
    filled = max(1, sum(map(bool, documents)))
    average = sum(map(len, documents)) / filled
    expected = {}
    for number, words in enumerate(documents):
        total = 0.0
        for term in query:
            holding = sum(term in each for each in documents)
            frequency = Counter(words)[term]
            length = byte_length(length_byte(len(words)))
            if frequency:
                idf = log(1 + (filled - holding + 0.5) / (holding + 0.5))
                total += idf * frequency / (frequency + K1 * (1 - B + B * length / average))
        if total:
            expected[number] = total
    hits = index.search(" ".join(query), limit=100)
    assert {hit.document: hit.score for hit in hits} == pytest.approx(expected)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_of_equal_documents_the_earlier_comes_first() -> None:
    index = TinyIndex()
    for _ in range(5):
        index.add("red shoe")
    assert [hit.document for hit in index.search("shoe", limit=3)] == [0, 1, 2]


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    index = TinyIndex()
    for _ in range(99):
        index.add("lamp table")
    rare = index.add("sextant table")
    assert index.search("lamp sextant", limit=1)[0].document == rare


@pytest.mark.parametrize("query", ["", "!!", "nowhere", "\x00", "é"])
def test_a_query_that_matches_nothing_gives_nothing(query: str) -> None:
    index = TinyIndex()
    index.add("red shoe")
    assert index.search(query) == []


def test_an_index_without_documents_finds_nothing() -> None:
    assert TinyIndex().search("red") == []


def test_the_analyser_knows_case_and_digits() -> None:
    assert terms("Red-Shoe X100, 3.5mm") == ["red", "shoe", "x100", "3", "5mm"]
