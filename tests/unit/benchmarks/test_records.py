from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.records import Record, Records, collect, file_name, load, merged, problems, text_of
from tests.unit.benchmarks.results import leave, record, search_record

ALL = "[!.]*.json"


def test_a_file_of_records_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = [record(), search_record(), search_record(1_000_000)]
    (tmp_path / "facts.json").write_text(text_of(Records(runs=kept)))
    found = load(tmp_path / "facts.json")
    assert [one.read() for one in found] == [one.read() for one in kept]
    assert text_of(Records(runs=found)) == text_of(Records(runs=kept))


def test_no_file_is_no_records(tmp_path: Path) -> None:
    assert load(tmp_path / "facts.json") == []


@pytest.mark.parametrize(
    "text", ["", "{", '{"runs": 1}', '{"runs": [], "more": 1}', '{"runs": [{"system": "payments"}]}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "facts.json").write_text(text)
    with pytest.raises(ValueError, match=r"^facts\.json is damaged: "):
        load(tmp_path / "facts.json")


def test_the_newest_of_each_system_size_and_runtime_stays_in_the_order_of_the_page() -> None:
    old, new = record(at="2026-01-01T00:00:00Z"), record(at="2026-02-01T00:00:00Z")
    docker = record(runtime="docker", at="2025-01-01T00:00:00Z")
    small, large = search_record(), search_record(1_000_000)
    assert merged([large, new], [small, docker, old]) == [new, docker, small, large]


@pytest.mark.parametrize(
    ("planted", "sentence"),
    [
        (record(system="coffee"), "there is no benchmark of coffee"),
        (record(runtime="podman"), "neither native nor docker"),
        (record(docs=5000), "search has a size, and nothing else"),
        (record(system="search"), "search has a size"),
        (search_record(999), "999 documents are not between"),
        (record(at="yesterday"), "'yesterday' is not a time"),
        (record(at="2026-02-30T00:00:00Z"), "is not a time"),
        (record(commit="main"), "'main' is not a commit"),
        (record(rounds=0), "below one"),
        (record(figures=msgspec.Raw(b'{"ratios": 1}')), "its figures are not those of this version"),
        (record(figures=msgspec.Raw(b'{"ratio": "fast"}')), "measure it again: make bench system=payments"),
    ],
)
def test_what_no_run_could_have_left_is_said(planted: Record, sentence: str) -> None:
    assert any(sentence in problem for problem in problems([planted]))


def test_the_same_twice_and_the_wrong_order_are_seen() -> None:
    assert problems([record(), record()]) == ["payments is there 2 times"]
    assert problems([search_record(), record()]) == ["the runs are not in the order of the document"]
    assert problems([record(), search_record()]) == []


def test_results_are_collected_and_what_is_no_result_is_left_out_with_its_reason(tmp_path: Path) -> None:
    leave(tmp_path, record())
    leave(tmp_path, search_record(rounds=1))
    folder = tmp_path / ".lab" / "bench"
    (folder / "webhooks.json").write_text('{"machine": {}, "ratio": 0.7}')
    (folder / "cron.json").write_text(text_of(record(commit="main")))
    (folder / ".payments.json.new").write_text("half of a fi")
    found = collect(folder, ALL)
    assert [one.name for one in found.records] == ["payments"]
    assert [reason.split(" is ")[0] for reason in found.left_out] == ["cron.json", "search.json", "webhooks.json"]
    assert "of a shortened run (1 rounds of 10 s)" in found.left_out[1]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert collect(tmp_path / "gone", ALL).records == []


def test_a_result_lies_under_its_own_name_and_names_the_command_that_makes_it() -> None:
    assert file_name("payments", None, "native") == "payments.json"
    assert file_name("search", 50_000, "native") == "search.json"
    assert file_name("search", 1_000_000, "docker") == "search-1000000.docker.json"
    assert record().command == "make bench system=payments"
    assert search_record(1_000_000, runtime="docker").command == (
        "LAB_RUNTIME=docker make bench system=search docs=1000000"
    )
