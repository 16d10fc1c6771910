from __future__ import annotations

import time
from itertools import islice, pairwise

import gevent
import pytest

from loadtests.pacing import Arrival, OpenModel, schedule


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    assert list(islice(schedule(50, 7), 100)) == list(islice(schedule(50, 7), 100))
    assert list(islice(schedule(50, 7), 100)) != list(islice(schedule(50, 8), 100))


def test_gaps_are_exponential_with_the_mean_of_the_rate() -> None:
    arrivals = list(islice(schedule(50, 1), 20_000))
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.02, rel=0.03)
    assert variance**0.5 == pytest.approx(mean, rel=0.05)


def model(operate: object, refuse: object = lambda _: None, **changes: float) -> OpenModel:
    options = {"rate": 200.0, "seed": 3, "seconds": 0.5, "max_in_flight": 1000} | changes
    return OpenModel(operate=operate, refuse=refuse, **options)  # type: ignore[arg-type]  # the numbers are what the test says


@pytest.mark.slow
def test_every_arrival_of_the_schedule_is_dispatched_however_slow_the_system_is() -> None:
    begun: list[Arrival] = []

    def hang(arrival: Arrival) -> None:
        begun.append(arrival)
        gevent.sleep(60)

    pacing = model(hang)
    pacing.run()
    gevent.sleep(0)
    expected = [offset for offset in islice(schedule(200, 3), 1000) if offset <= 0.5]
    assert [arrival.number for arrival in begun] == list(range(len(expected)))
    assert pacing.in_flight == len(expected)
    gaps = [arrival.intended_at - begun[0].intended_at for arrival in begun]
    assert gaps == pytest.approx([offset - expected[0] for offset in expected])
    assert pacing.drain(0) == len(expected)
    assert pacing.in_flight == 0


@pytest.mark.slow
def test_arrivals_beyond_the_cap_are_refused_and_told() -> None:
    begun: list[int] = []
    refused: list[int] = []

    def hang(arrival: Arrival) -> None:
        begun.append(arrival.number)
        gevent.sleep(60)

    pacing = model(hang, lambda arrival: refused.append(arrival.number), max_in_flight=10)
    pacing.run()
    pacing.drain(0)
    expected = sum(offset <= 0.5 for offset in islice(schedule(200, 3), 1000))
    assert begun == list(range(10))
    assert refused == list(range(10, expected))


@pytest.mark.slow
def test_stop_ends_the_intake_at_once_and_drain_waits_for_what_was_begun() -> None:
    ended: list[int] = []

    def work(arrival: Arrival) -> None:
        gevent.sleep(0.05)
        ended.append(arrival.number)

    pacing = model(work, seconds=600)
    dispatcher = gevent.spawn(pacing.run)
    deadline = time.monotonic() + 10
    while len(ended) < 5:
        assert time.monotonic() < deadline
        gevent.sleep(0.01)
    pacing.stop()
    dispatcher.join(timeout=5)
    assert dispatcher.ready()
    in_flight = pacing.in_flight
    before = len(ended)
    assert pacing.drain(5) == 0
    assert len(ended) == before + in_flight
