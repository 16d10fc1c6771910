"""What of a run is kept, which runs count, and what no run could have left."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from labs.engine.model import Verdict
from labs.verdicts.record import Held, Record, collect, load, merged, problems, text_of
from tests.unit.labs.verdicts.runs import STARTED, broken, fact, plant, written_at


def test_a_whole_run_becomes_one_fact(tmp_path: Path) -> None:
    plant(tmp_path)
    assert collect(tmp_path).records == [fact()]


def test_a_run_under_docker_that_failed_is_told_as_it_is(tmp_path: Path) -> None:
    described = {"runtime": "docker", "commit": "cbe86ae-dirty", "stand_ins": ["postgres:17.6"]}
    plant(tmp_path, verdict="fail", held=5, violations=0, experiment=described)
    (record,) = collect(tmp_path).records
    assert (record.runtime, record.verdict, record.commit) == ("docker", Verdict.FAIL, "cbe86ae-dirty")
    assert (record.naive, record.engineered) == ([], Held(held=5, judged=7))
    assert record.stand_ins == ["postgres:17.6"]


@pytest.mark.parametrize(
    "experiment",
    [
        {"short": True},
        {"options": {"rate": 100}},
        {"options": {"docs": 50000}},
        {"variants": {"naive": {}}},
    ],
)
def test_a_run_that_is_not_the_whole_experiment_does_not_count(tmp_path: Path, experiment: dict[str, Any]) -> None:
    plant(tmp_path, experiment=experiment)
    found = collect(tmp_path)
    assert (found.records, found.damaged) == ([], [])


def test_a_run_without_a_verdict_and_the_link_to_the_latest_do_not_count(tmp_path: Path) -> None:
    folder = plant(tmp_path)
    (folder.parent / "latest").symlink_to(folder.name)
    (plant(tmp_path, seed=7) / "verdict.json").unlink()
    assert [record.seed for record in collect(tmp_path).records] == [42]


def test_a_run_of_before_its_seconds_and_commit_were_written_is_timed_by_its_files(tmp_path: Path) -> None:
    folder = plant(tmp_path, seconds=None, experiment={"commit": None})
    written_at(folder, datetime.fromisoformat(STARTED).timestamp() + 150.7)
    (record,) = collect(tmp_path).records
    assert (record.seconds, record.commit) == (151, None)


@pytest.mark.parametrize("file", ["experiment.json", "verdict.json"])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema": 2}', b"\xff\xfe", b'{"schema": 1, "short": "no"}'])
def test_a_damaged_run_is_named_and_the_others_are_read(tmp_path: Path, file: str, text: bytes) -> None:
    (plant(tmp_path, seed=7) / file).write_bytes(text)
    plant(tmp_path)
    found = collect(tmp_path)
    assert found.records == [fact()]
    (damaged,) = found.damaged
    assert "week02-day2/20260304T050607Z-seed7" in damaged


def test_a_run_that_could_not_be_is_left_out_with_the_reason(tmp_path: Path) -> None:
    plant(tmp_path, violations=0)
    found = collect(tmp_path)
    assert found.records == []
    assert "passed although the naive variant broke nothing" in found.damaged[0]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder of runs; run a lab first"):
        collect(tmp_path / "nowhere")


def test_the_newest_run_of_a_lab_runtime_and_seed_wins_whichever_came_first() -> None:
    old, new = fact(seconds=170), fact(started_at="2026-03-05T00:00:00Z", seconds=150)
    other = [fact(seed=7), fact(runtime="docker"), fact(lab="week07-day1")]
    assert (
        merged([new, *other], [old])
        == merged([old], [*other, new])
        == [fact(runtime="docker"), other[0], new, other[2]]
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    assert load(path) == []
    records = [fact(commit=None, seed=7), fact(verdict=Verdict.UNKNOWN, naive=[], engineered=Held(held=0, judged=0))]
    path.write_text(text_of(records))
    assert load(path) == records


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 2, "runs": []}', '{"schema": 1, "runs": [{}]}', '{"schema": 1, "rows": []}'],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "verdicts.json").write_text(text)
    with pytest.raises(ValueError, match=r"^verdicts\.json is damaged: "):
        load(tmp_path / "verdicts.json")


def test_a_file_with_an_impossible_fact_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "verdicts.json").write_text(text_of([fact(seconds=0)]))
    with pytest.raises(ValueError, match="week02-day2 native seed 42: it took no time"):
        load(tmp_path / "verdicts.json")


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (fact(lab="day two"), "not named like week02-day2"),
        (fact(runtime="fake"), "neither native nor docker"),
        (fact(seed=-1), "the seed is negative"),
        (fact(seconds=-3), "it took no time"),
        (fact(started_at="yesterday"), "is not a time"),
        (fact(started_at="2026-3-4T05:06:07Z"), "is not a time"),
        (fact(commit="main"), "'main' is not a commit"),
        (fact(naive=[broken("x", 0)]), "broken without a violation"),
        (fact(engineered=Held(held=8, judged=7)), "8 of 7 invariants held"),
        (fact(engineered=Held(held=6, judged=7)), "passed although"),
        (fact(engineered=Held(held=0, judged=0)), "passed although"),
        (fact(naive=[]), "passed although"),
    ],
)
def test_what_no_run_could_have_left_is_seen(record: Record, sentence: str) -> None:
    assert problems([fact(seed=1)]) == []
    assert any(sentence in problem for problem in problems([record]))


def test_two_facts_of_one_run_and_a_wrong_order_are_seen() -> None:
    assert "week02-day2 native seed 42 is there 2 times" in problems([fact(), fact(seconds=3)])
    assert "the runs are not in the order of lab, runtime and seed" in problems([fact(seed=7), fact(seed=3)])
