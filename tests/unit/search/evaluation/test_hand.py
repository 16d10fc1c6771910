"""The hand-judged set is about the generated catalogue as it is, and holds what its page says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from services.catalog.generate import product_id
from services.search.evaluation.judged import HAND, read
from services.search.query.build import FIELDS
from services.search.query.parser import parse

PAGE = Path(HAND).with_name("JUDGING.md")


def test_every_product_that_is_graded_is_in_the_catalogue() -> None:
    known = {str(product_id(1, number)) for number in range(5_000)}
    named = {each for judged in read(HAND) for each in judged.grades}
    assert named <= known


def test_the_page_says_how_many_queries_and_grades_there_are() -> None:
    queries = read(HAND)
    said = re.search(r"holds (\d+) queries .* and (\d+) grades", PAGE.read_text())
    assert said is not None
    assert (int(said[1]), int(said[2])) == (len(queries), sum(len(each.grades) for each in queries))


def test_every_query_can_be_asked_and_has_an_answer() -> None:
    for each in read(HAND):
        assert parse(each.query, FIELDS), each.query
        assert each.grades, each.query


def test_each_kind_of_query_is_there_several_times() -> None:
    forms = Counter(each.form for each in read(HAND))
    assert set(forms) == {"traits", "measure", "brand", "code", "synonym", "typo", "language", "syntax"}
    assert min(forms.values()) >= 4
