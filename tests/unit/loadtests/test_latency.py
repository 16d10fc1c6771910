from __future__ import annotations

import pytest

from loadtests.history import Outcome, Record
from loadtests.latency import LAG_LIMIT_MS, Latencies
from loadtests.summary import Summary


def test_percentiles_are_milliseconds_of_three_digits() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.record(milliseconds / 1000)
    assert latencies.at(50) == pytest.approx(500, rel=0.002)
    assert latencies.at(99) == pytest.approx(990, rel=0.002)
    assert (latencies.longest, latencies.count) == (1000.0, 1000)


def test_no_percentile_exceeds_the_longest_and_nothing_has_none() -> None:
    latencies = Latencies()
    assert (latencies.at(50), latencies.longest) == (None, None)
    latencies.record(0.123456)
    assert latencies.at(100) == latencies.longest == 123.456


@pytest.mark.parametrize("seconds", [0.0, -0.001, 1e9])
def test_what_does_not_fit_is_counted_at_the_end_of_the_scale(seconds: float) -> None:
    latencies = Latencies()
    latencies.record(seconds)
    assert latencies.count == 1
    assert latencies.at(50) is not None


def record(outcome: Outcome, sent_at: float | None, done_at: float | None) -> Record:
    return Record("1-0", "k", "payment", 10.0, sent_at, done_at, 1, None, outcome, None, None)


def test_a_summary_counts_every_outcome_and_says_that_a_late_generator_measured_itself() -> None:
    summary = Summary("payment")
    summary.add(record(Outcome.OK, 10.001, 10.02))
    summary.add(record(Outcome.UNKNOWN, 10.001, None))
    summary.add(record(Outcome.FAIL, None, None))
    text = summary.text()
    assert "3 payments: ok 1, fail 1, unknown 1" in text
    assert "p50 20.0 ms" in text
    assert "generator's" not in text
    summary.add(record(Outcome.OK, 10.0 + LAG_LIMIT_MS / 1000 + 0.01, 10.2))
    assert "these figures are the generator's" in summary.text()


def test_a_summary_of_nothing_invents_no_figure() -> None:
    text = Summary("job").text()
    assert "0 jobs" in text
    assert "p50 -" in text
