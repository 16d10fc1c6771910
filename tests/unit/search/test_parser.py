"""The query language: each form, each error with its place, and nothing else whatever is typed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.query.parser import LONGEST_QUERY, MOST_CLAUSES, Clause, QueryError, parse

FIELDS = frozenset({"title", "brand", "sku"})


def forms(query: str) -> list[tuple[str, str | None, str]]:
    """Text, field, and marks: - excluded, " phrase, * prefix."""
    return [(c.text, c.field, "-" * c.excluded + '"' * c.phrase + "*" * c.prefix) for c in parse(query, FIELDS)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", []),
        ("   \t\n", []),
        ("red shoes", [("red", None, ""), ("shoes", None, "")]),
        ('"red shoes" size', [("red shoes", None, '"'), ("size", None, "")]),
        ("-red", [("red", None, "-")]),
        ('-"red shoes"', [("red shoes", None, '-"')]),
        ("brand:nord", [("nord", "brand", "")]),
        ('-brand:"nord hav"', [("nord hav", "brand", '-"')]),
        ("shoe*", [("shoe", None, "*")]),
        ("title:sho*", [("sho", "title", "*")]),
        ("a - b", [("a", None, ""), ("b", None, "")]),
        ("* -- -*", []),
        ("911 997", [("911", None, ""), ("997", None, "")]),
        ("XR-2100", [("XR-2100", None, "")]),
        ("12:30", [("12:30", None, "")]),
        ("http://a.b/c", [("http://a.b/c", None, "")]),
        ('""', []),
        ('"  "', []),
        ('say "a \\"b\\" \\\\"', [("say", None, ""), ('a "b" \\', None, '"')]),
        ('5"', None),
        ("a\x00b", [("a", None, ""), ("b", None, "")]),
        ('re"d sh"oes', [("re", None, ""), ("d sh", None, '"'), ("oes", None, "")]),
        ("Größe été", [("Größe", None, ""), ("été", None, "")]),
    ],
)
def test_what_is_typed_becomes_clauses(query: str, expected: list[tuple[str, str | None, str]] | None) -> None:
    if expected is None:
        with pytest.raises(QueryError):
            forms(query)
    else:
        assert forms(query) == expected


@pytest.mark.parametrize(
    ("query", "position", "says"),
    [
        ('red "shoes', 4, "never closed"),
        ("colour:red", 0, "there are brand, sku, title"),
        ("red price:5", 4, "no field 'price'"),
        ("brand: nord", 0, "value is missing"),
        ("red -brand:", 5, "value is missing"),
        ("*shoe", 0, "end of a word"),
        ("red s*e", 4, "end of a word"),
        ("s*", 0, "at least 2"),
        ("x" * (LONGEST_QUERY + 1), LONGEST_QUERY, "at most 512"),
        ("a " * (MOST_CLAUSES + 1), 2 * MOST_CLAUSES, "at most 32"),
        ("ab\ud800", 2, "surrogate"),
    ],
)
def test_an_impossible_query_is_refused_with_its_place(query: str, position: int, says: str) -> None:
    with pytest.raises(QueryError, match=says) as raised:
        parse(query, FIELDS)
    assert raised.value.position == position


@given(st.text(st.characters(codec=None, categories=None), max_size=80) | st.text('ab:"-*\\ ', max_size=40))
def test_anything_typed_gives_clauses_in_order_or_one_error_inside_the_query(query: str) -> None:
    try:
        clauses = parse(query, FIELDS)
    except QueryError as error:
        clauses, place = (), error.position
    else:
        place = 0
    assert 0 <= place <= len(query)
    assert all(clause.text.strip() and 0 <= clause.start < clause.end <= len(query) for clause in clauses)
    assert all(before.end <= after.start for before, after in pairwise(clauses))


@given(st.lists(st.tuples(st.text("abcé1", min_size=2, max_size=8), st.booleans(), st.booleans()), max_size=10))
def test_clauses_written_out_are_read_back(words: list[tuple[str, bool, bool]]) -> None:
    query = " ".join("-" * excluded + (f'"{text} x"' if phrase else text) for text, excluded, phrase in words)
    expected = [(f"{text} x" if phrase else text, excluded, phrase) for text, excluded, phrase in words]
    found: tuple[Clause, ...] = parse(query, FIELDS)
    assert [(clause.text, clause.excluded, clause.phrase) for clause in found] == expected
