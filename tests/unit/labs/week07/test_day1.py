"""The pure parts of days 1 and 4: what is asked, of which size, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from labs.engine import Round
from labs.week07 import day1_fundamentals, day4_relevance, yours_day1, yours_day4
from labs.week07.questions import joined, questions
from labs.week07.ranked_search import drawn, single_words, strangers, with_rules
from labs.week07.tiny_index import TinyIndex
from labs.week07.title_search import FullText, Like, Tiny
from services.catalog.generate import EPOCH
from services.catalog.judge import Form


def about(docs: int | None = None, *, short: bool = False) -> Round:
    return Round("like", "lab_", control=False, short=short, seed=7, docs=docs, note=lambda _: None)


@pytest.mark.parametrize(
    ("docs", "short", "sizes"),
    [
        (None, False, [1_000, 10_000, 100_000]),
        (None, True, [1_000, 10_000]),
        (1_000_000, False, [1_000, 10_000, 100_000, 1_000_000]),
        (5_000, True, [1_000, 5_000]),
        (1_000, False, [1_000]),
    ],
)
def test_sizes_go_up_by_ten_to_what_was_asked_for(docs: int | None, short: bool, sizes: list[int]) -> None:
    assert day1_fundamentals.sizes(about(docs, short=short)) == sizes


def test_the_same_questions_are_asked_at_each_size() -> None:
    small = questions(7, 12, 300, (Form.NOUN, Form.MODEL), 300)
    large = questions(7, 12, 600, (Form.NOUN, Form.MODEL), 300)
    assert [each.text for each in small] == [each.text for each in large]
    assert len({each.key for each in small}) == 12
    assert all(each.best[0] >= 1 for each in small)


def test_whole_titles_have_one_right_answer_each() -> None:
    for each in day1_fundamentals.whole_titles(7):
        grades = each.grades(range(day1_fundamentals.CONTROL_DOCS))
        assert each.best == (3,)
        assert len(grades) == 10


def test_a_pattern_is_taken_literally() -> None:
    assert Like(None).parameter("50% _off\\") == "%50\\% \\_off\\\\%"  # type: ignore[arg-type]  # never connected
    assert FullText(None).parameter("Bürostuhl XR-21 's") == "'bürostuhl' | 'xr' | '21' | 's'"  # type: ignore[arg-type]


async def test_the_small_index_answers_by_number() -> None:
    search = Tiny()
    assert await search.fill(["red lamp", "desk", "lamp lamp"]) > 0
    found = await search.ask("lamp")
    assert sorted(found.numbers) == [0, 2]


def test_numbers_are_told_so_that_they_are_read_back() -> None:
    assert joined([3, 0, 1]) == "3 0 1"
    assert [float(each) for each in joined([0.1234567, 12.5]).split()] == [0.1234567, 12.5]


def test_the_runs_seed_draws_the_questions_of_day_4() -> None:
    first, again, other = drawn(1, 1_000, 10, 40), drawn(1, 1_000, 10, 40), drawn(2, 1_000, 10, 40)
    assert first == again
    assert [each.query for each in first] != [each.query for each in other]
    assert all(each.history == [] for each in strangers(first))


def test_control_words_mean_one_thing_only() -> None:
    words = [each.query for each in single_words(1_000)]
    assert len(words) == len(set(words)) >= 5
    assert all(" " not in word for word in words)


def test_only_the_full_system_knows_rules() -> None:
    with pytest.raises(TypeError, match="knows no business rules"):
        with_rules(Nobody(), ())


@dataclass
class Nobody:
    async def find(self, judged: object, limit: int) -> list[str]:
        return []


def test_the_stubs_say_what_to_write() -> None:
    word = yours_day1.Word(10, 2, 5.0)
    with pytest.raises(yours_day1.NotWrittenYet, match=r"yours_day1\.py"):
        yours_day1.score(1, 5, word)
    candidate = yours_day4.Candidate(1.0, 0, True, EPOCH, 1, ())
    with pytest.raises(yours_day4.NotWrittenYet, match=r"yours_day4\.py"):
        yours_day4.score(candidate, yours_day4.Person({}, {}), EPOCH)
    assert yours_day1.search(TinyIndex(), "lamp", 10) == []


def test_both_labs_name_what_discriminates() -> None:
    for lab in (day1_fundamentals.LAB, day4_relevance.LAB):
        assert lab.discriminates.invariant in lab.invariants
        assert lab.comparison is not None
