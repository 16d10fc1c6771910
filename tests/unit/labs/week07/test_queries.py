from __future__ import annotations

import pytest

from labs.week07.queries import FILE, QUERIES, queries
from loadtests.search_client import read_queries


@pytest.mark.slow
def test_the_committed_queries_are_what_the_generator_draws() -> None:
    assert FILE.read_text("utf-8").splitlines() == queries()


def test_they_are_thousands_of_different_ones() -> None:
    assert len(read_queries(FILE)) == QUERIES
