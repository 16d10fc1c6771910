"""The gate refuses what is worse, names the worst queries, and lets through what is better, equal or within what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.search.evaluation.bootstrap import interval
from services.search.evaluation.gate import losses
from services.search.evaluation.result import Result, ResultWrong, Row, kept, lines, save, table

COUNT = 40


def result(
    ndcg: float, *, ruined: dict[str, float] | None = None, ranking: str = "boosted", judged: str = "hand.jsonl"
) -> Result:
    worth = ruined or {}
    rows = [
        Row(
            f"query {number}",
            "noun" if number % 2 else "typo",
            "en",
            worth.get(f"query {number}", ndcg),
            1.0,
            1.0,
            False,
        )
        for number in range(COUNT)
    ]
    return Result(judged, {ranking: rows})


@pytest.mark.parametrize(("after", "refused"), [(0.9, False), (0.8, False), (0.791, False), (0.78, True), (0.1, True)])
def test_it_refuses_what_lost_more_than_it_may(after: float, refused: bool) -> None:
    assert any(loss.refused for loss in losses(result(0.8), result(after), 0.01)) is refused


def test_it_names_the_worst_queries_and_only_those_that_lost() -> None:
    after = result(0.8, ruined={"query 7": 0.0, "query 9": 0.3})
    whole, *_ = losses(result(0.8), after, 0.01)
    assert whole.refused
    assert [query for query, _, _ in whole.worst] == ["query 7", "query 9"]
    assert "0.800 -> 0.000  query 7" in whole.told()


def test_a_form_that_is_ruined_is_not_hidden_by_the_others_being_better() -> None:
    before = result(0.8)
    after = result(0.9, ruined={f"query {number}": 0.7 for number in range(0, COUNT, 2)})
    refused = [loss.form for loss in losses(before, after, 0.01) if loss.refused]
    assert refused == ["typo"]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (result(1, judged="a"), result(1, judged="b"), "is about a, this one about b"),
        (result(1, ranking="a"), result(1, ranking="b"), "nothing to compare"),
        (result(1), Result("hand.jsonl", {"boosted": []}), "not asked now, such as 'query 0'"),
        (Result("hand.jsonl", {"boosted": []}), result(1), "no query was asked both times"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_sentence(before: Result, after: Result, says: str) -> None:
    with pytest.raises(ResultWrong, match=says):
        losses(before, after, 0.01)


def test_a_result_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    save(tmp_path / "result.json", result(0.5))
    assert kept(tmp_path / "result.json") == result(0.5)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"schema": 2, "judged": "x", "rankings": {}}'])
def test_a_kept_result_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(ResultWrong, match="is no result of an evaluation"):
        kept(tmp_path / "result.json")
    with pytest.raises(ResultWrong, match="cannot be read"):
        kept(tmp_path / "none.json")


def test_the_table_has_each_ranking_over_all_queries_and_by_form() -> None:
    assert [(line.ranking, line.form, line.queries) for line in lines(result(0.5))] == [
        ("boosted", "all", COUNT), ("boosted", "typo", COUNT // 2), ("boosted", "noun", COUNT // 2),
    ]  # fmt: skip
    assert "0.500 [0.500, 0.500]" in table(result(0.5))


def test_the_interval_is_about_the_mean_and_narrows_with_more_queries() -> None:
    few, many = interval([0.0, 1.0] * 10), interval([0.0, 1.0] * 200)
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    assert interval([0.0, 1.0] * 10) == few


def test_of_nothing_there_is_no_interval() -> None:
    with pytest.raises(ValueError, match="no mean"):
        interval([])
