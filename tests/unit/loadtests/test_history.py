from __future__ import annotations

import json
import time
from pathlib import Path

from loadtests.history import History, Outcome, Record, percentile


def record(number: int, outcome: Outcome = Outcome.OK, done_at: float | None = 2.5) -> Record:
    return Record(f"1-{number}", f"k-{number}", "payment", 2.0, 2.001, done_at, 1, 201, outcome, None, None)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_operation_is_a_line(tmp_path: Path) -> None:
    history = History(tmp_path / "run" / "h.jsonl", None)
    history.write(record(1))
    history.write(record(2, Outcome.UNKNOWN, None))
    history.close()
    first, second = lines(tmp_path / "run" / "h.jsonl")
    assert first == {
        "id": "1-1", "key": "k-1", "kind": "payment", "intended_at": 2.0, "sent_at": 2.001, "done_at": 2.5,
        "attempts": 1, "status": 201, "outcome": "ok", "error": None, "result": None,
    }  # fmt: skip
    assert (second["outcome"], second["done_at"]) == ("unknown", None)


def test_a_tick_flushes_so_that_a_generator_killed_hard_loses_little(tmp_path: Path) -> None:
    history = History(tmp_path / "h.jsonl", tmp_path / "l.jsonl")
    history.write(record(1))
    history.tick(0)
    assert len(lines(tmp_path / "h.jsonl")) == 1
    assert len(lines(tmp_path / "l.jsonl")) == 1
    history.close()


def test_a_live_line_counts_since_the_last_one_only(tmp_path: Path) -> None:
    history = History(None, tmp_path / "l.jsonl")
    history.sent(2.0, 2.01)
    history.write(record(1))
    history.write(record(2, Outcome.FAIL))
    history.write(record(3, Outcome.UNKNOWN, None))
    first = history.tick(7)
    assert (first.sent, first.done, first.ok, first.fail, first.unknown, first.in_flight) == (1, 3, 1, 1, 1, 7)
    assert (first.p50_ms, first.lag_p99_ms) == (500.0, 10.0)
    second = history.tick(0)
    assert (second.sent, second.done, second.p50_ms, second.lag_p99_ms) == (0, 0, None, None)
    history.close()
    history.close()


def test_a_live_line_says_what_the_generator_used_of_a_core(tmp_path: Path) -> None:
    history = History(None, tmp_path / "l.jsonl")
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    line = history.tick(0)
    history.close()
    assert line.cores is not None
    assert 0 < line.cores <= 4
    assert lines(tmp_path / "l.jsonl")[0]["cores"] == line.cores


def test_percentiles_are_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([3.0], 0.99)) == (51.0, 100.0, 3.0)
    assert percentile([], 0.5) is None
