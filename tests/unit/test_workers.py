"""The number of workers follows cores and memory."""

from __future__ import annotations

import pytest

from tests.workers import MIB_EACH, MOST, how_many, of_this_machine


@pytest.mark.parametrize(
    ("cores", "workers", "workers_of_memory", "expected"),
    [
        (2, "one more than cores", 10, 3),
        (4, "one more than cores", 10, 5),
        (16, "never more than the longest files are worth", 100, MOST),
        (8, "what memory allows", 4, 4),
        (2, "one where memory is short", 0, 1),
    ],
)
def test_workers_are_one_more_than_cores_within_memory(
    cores: int, workers: str, workers_of_memory: int, expected: int
) -> None:
    assert how_many(cores, workers_of_memory * MIB_EACH) == expected, workers


def test_tests_that_start_no_server_are_not_bounded_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.workers.MIB_EACH", 2**40)
    assert of_this_machine(["tests"]) == 1
    assert of_this_machine(["tests/unit", "tests/contract"]) > 1
