"""The exercises of week 7: the stub fails, plausible wrong solutions are refused, and a right one is accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from math import log, log1p
from pathlib import Path

import pytest

from labs.engine import Lab
from labs.engine.model import Status
from labs.engine.run import Options
from labs.week07 import day1_fundamentals, day4_relevance, yours_day1, yours_day4
from labs.week07.yours_day1 import K1, B, Word
from labs.week07.yours_day4 import Candidate, Person
from tests.integration.labs.borrowed import BorrowedLab, BorrowedRuntime
from tests.servers import SearchServer

pytestmark = pytest.mark.integration


@pytest.fixture
def borrowed(tmp_path: Path, search_server: SearchServer) -> BorrowedLab:
    return BorrowedLab(tmp_path, BorrowedRuntime(ports={"search-engine": search_server.port, "prometheus": 1}))


async def judged(borrowed: BorrowedLab, lab: Lab) -> tuple[int, dict[str, Status]]:
    """Exit code, and what the checker says of each invariant."""
    code = await borrowed.run(lab, Options(variant="yours", short=True))
    found = borrowed.verdict(lab).variants["yours"].invariants
    return code, {name: part.status for name, part in found.items()}


# --- day 1: BM25 --------------------------------------------------------------------------------------------------------


def bm25(frequency: int, length: int, word: Word) -> float:
    idf = log(1 + (word.documents - word.with_word + 0.5) / (word.with_word + 0.5))
    return idf * frequency / (frequency + K1 * (1 - B + B * length / word.average_length))


def tf_idf(frequency: int, length: int, word: Word) -> float:
    return frequency * log(word.documents / word.with_word)


def length_does_not_matter(frequency: int, length: int, word: Word) -> float:
    idf = log(1 + (word.documents - word.with_word + 0.5) / (word.with_word + 0.5))
    return idf * frequency / (frequency + K1)


def classic_idf(frequency: int, length: int, word: Word) -> float:
    saturated = frequency / (frequency + K1 * (1 - B + B * length / word.average_length))
    return log(word.documents / word.with_word) * saturated


Score = Callable[[int, int, Word], float]


async def test_the_stub_of_day_1_shows_nothing(borrowed: BorrowedLab) -> None:
    code, _ = await judged(borrowed, day1_fundamentals.LAB)
    assert code == 3
    assert "Write score() in labs/week07/yours_day1.py" in borrowed.text


@pytest.mark.parametrize("wrong", [tf_idf, length_does_not_matter, classic_idf])
async def test_a_score_that_is_not_bm25_is_refused(
    borrowed: BorrowedLab, monkeypatch: pytest.MonkeyPatch, wrong: Score
) -> None:
    monkeypatch.setattr(yours_day1, "score", wrong)
    code, found = await judged(borrowed, day1_fundamentals.LAB)
    assert code == 1, borrowed.text
    assert found["tiny_index_agrees"] is Status.BROKEN, borrowed.text


async def test_bm25_is_accepted(borrowed: BorrowedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yours_day1, "score", bm25)
    _, found = await judged(borrowed, day1_fundamentals.LAB)
    assert found["tiny_index_agrees"] is Status.HELD, borrowed.text
    assert found["finds_what_is_meant"] is Status.HELD, borrowed.text


# --- day 4: a ranking ---------------------------------------------------------------------------------------------------


def bounded(candidate: Candidate, person: Person, now: datetime) -> float:
    taste = person.brands.get(candidate.brand_id, 0.0)
    sales = min(1.6, 1 + 0.08 * log1p(candidate.popularity))
    return candidate.text * sales * (1.0 if candidate.in_stock else 0.6) * (1 + 0.1 * taste)


def text_only(candidate: Candidate, person: Person, now: datetime) -> float:
    return candidate.text


def sales_added(candidate: Candidate, person: Person, now: datetime) -> float:
    return candidate.text + candidate.popularity


def nothing_that_is_out_of_stock(candidate: Candidate, person: Person, now: datetime) -> float:
    return candidate.text if candidate.in_stock else 0.0


def love_is_blind(candidate: Candidate, person: Person, now: datetime) -> float:
    taste = person.brands.get(candidate.brand_id, 0.0) + max(
        (person.categories.get(each, 0.0) for each in candidate.categories), default=0.0
    )
    return candidate.text * (1.0 if candidate.in_stock else 0.6) * (1 + 20 * taste)


Rank = Callable[[Candidate, Person, datetime], float]


async def test_the_stub_of_day_4_shows_nothing(borrowed: BorrowedLab) -> None:
    code, _ = await judged(borrowed, day4_relevance.LAB)
    assert code == 3
    assert "Write score() in labs/week07/yours_day4.py" in borrowed.text


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        (text_only, "what_can_be_bought_comes_first"),
        (sales_added, "finds_what_is_meant"),
        (nothing_that_is_out_of_stock, "numbers_come_first"),
        (love_is_blind, "taste_costs_no_relevance"),
    ],
)
async def test_a_plausible_ranking_that_is_wrong_is_refused(
    borrowed: BorrowedLab, monkeypatch: pytest.MonkeyPatch, wrong: Rank, broken: str
) -> None:
    monkeypatch.setattr(yours_day4, "score", wrong)
    code, found = await judged(borrowed, day4_relevance.LAB)
    assert code == 1, borrowed.text
    assert found[broken] is Status.BROKEN, borrowed.text


async def test_a_bounded_ranking_is_accepted(borrowed: BorrowedLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yours_day4, "score", bounded)
    code, found = await judged(borrowed, day4_relevance.LAB)
    assert code == 0, borrowed.text
    assert found["finds_what_is_meant"] is Status.HELD
