"""The knee is found where it was planted, and nowhere else; figures of a late generator are not believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pytest

from loadtests.history import Live, Outcome
from loadtests.knee import Bounds, Knee, Measured, Operation, Status, Step, Window, climb, judged, knee, measured

BOUNDS = Bounds(p99_ms=250.0)
WINDOW = Window(100.0, 110.0)
RATES = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0)


def operation(
    intended_at: float,
    latency: float | None = 0.02,
    outcome: Outcome = Outcome.OK,
    lag: float | None = 0.001,
    attempts: int = 1,
) -> Operation:
    sent_at = None if lag is None else intended_at + lag
    done_at = None if latency is None or lag is None else intended_at + latency
    return Operation(intended_at, sent_at, done_at, attempts, outcome)


def queue(rate: float, capacity: float, service: float = 0.02) -> list[Operation]:
    """Even arrivals from 98 to 110 at one server that does `capacity` a second: what arrives faster waits."""
    free_at, found = 0.0, []
    for number in range(int(rate * 12)):
        intended_at = 98.0 + number / rate
        free_at = max(free_at, intended_at) + 1 / capacity
        found.append(operation(intended_at, max(free_at - intended_at, service)))
    return found


def live(cores: float) -> list[Live]:
    return [Live(at, 1, 1, 1, 0, 0, 1, 1.0, 1.0, 1.0, cores) for at in (101.0, 105.0)]


def step(rate: float, status: Status = Status.WITHIN, ok: int = 1000) -> Step:
    return Step(
        rate=rate, seconds=8.0, operations=1000, ok=ok, fail=1000 - ok, unknown=0, refused=0, offered_per_second=rate,
        throughput_per_second=rate, attempts=1.0, p50_ms=10.0, p90_ms=12.0, p99_ms=20.0, max_ms=30.0, lag_p99_ms=2.0,
        cores=0.2, status=status, reason="" if status is Status.WITHIN else "planted",
    )  # fmt: skip


def found(steps: Sequence[Step]) -> Knee:
    return knee(steps, BOUNDS)


@pytest.mark.parametrize(("capacity", "at"), [(120, 100), (201, 200), (270, 250)])
def test_the_knee_of_a_queue_is_the_last_step_below_its_capacity(capacity: float, at: float) -> None:
    steps = [measured(queue(rate, capacity), [], rate, WINDOW, BOUNDS) for rate in RATES]
    assert found(steps).rate == at
    assert found(steps).beyond == at + 50


def test_there_is_no_knee_where_every_step_holds_or_none_does() -> None:
    flat = found([measured(queue(rate, 1000), [], rate, WINDOW, BOUNDS) for rate in RATES])
    assert (flat.rate, flat.beyond) == (300.0, None)
    assert flat.sentence.startswith("No knee up to 300/s")
    steep = found([measured(queue(rate, 20), [], rate, WINDOW, BOUNDS) for rate in RATES])
    assert (steep.rate, steep.beyond) == (None, 50.0)
    assert "below the first step" in steep.sentence


@pytest.mark.parametrize(
    ("rate", "beyond", "told"),
    [(100.0, 150.0, "100/s"), (100.0, None, "above 100/s"), (None, 0.5, "below 0.5/s"), (None, None, "unknown")],
)
def test_what_is_not_known_of_the_knee_is_not_told(rate: float | None, beyond: float | None, told: str) -> None:
    assert Knee(rate, beyond, "").told == told


def test_a_step_that_fails_fast_is_beyond_however_quick_its_answers_are() -> None:
    records = [operation(100 + n / 100, 0.001, Outcome.FAIL if n % 20 == 0 else Outcome.OK) for n in range(1000)]
    one = measured(records, [], 100, WINDOW, BOUNDS)
    assert (one.status, one.ok, one.fail) == (Status.BEYOND, 950, 50)
    assert one.reason == "goodput 95.0% of offered, below 98%"
    assert one.throughput_per_second == 95.0


def test_what_never_ended_is_a_latency_of_at_least_the_rest_of_the_step() -> None:
    records = [operation(100 + n / 100, 0.01) for n in range(985)]
    records += [operation(101.0, None, Outcome.UNKNOWN) for _ in range(15)]
    one = measured(records, [], 100, WINDOW, BOUNDS)
    assert one.ok_share >= 0.98
    assert one.p99_ms is not None
    assert one.p99_ms > 8000
    assert one.status is Status.BEYOND


def test_only_operations_intended_in_the_window_are_judged() -> None:
    warm_up = [operation(99.0 + n / 1000, 0.99, Outcome.FAIL) for n in range(999)]
    late = [operation(110.0, 5.0, Outcome.FAIL)]
    one = measured([*warm_up, *[operation(100 + n / 10) for n in range(100)], *late], [], 10, WINDOW, BOUNDS)
    assert (one.operations, one.ok, one.status) == (100, 100, Status.WITHIN)
    assert one.offered_per_second == 10.0


def test_throughput_counts_what_was_acknowledged_in_the_window_wherever_it_began() -> None:
    records = [operation(99.95, 0.2), *[operation(100 + n / 10) for n in range(99)], operation(109.99, 1.0)]
    assert measured(records, [], 10, WINDOW, BOUNDS).throughput_per_second == 10.0


def test_arrivals_beyond_the_cap_of_the_generator_are_no_success_of_the_system() -> None:
    records = [operation(100 + n / 100) for n in range(995)]
    records += [operation(109.0, None, Outcome.FAIL, lag=None) for _ in range(5)]
    one = measured(records, [], 100, WINDOW, BOUNDS)
    assert (one.status, one.refused, one.ok_share) == (Status.BEYOND, 5, 0.995)
    assert one.reason == "5 not sent at the in-flight cap"


@pytest.mark.parametrize("latency", [0.02, 2.0])
def test_a_step_whose_generator_was_late_is_not_believed_whether_it_looks_good_or_bad(latency: float) -> None:
    records = [operation(100 + n / 100, latency, lag=0.08 if n % 50 == 0 else 0.001) for n in range(1000)]
    one = measured(records, [], 100, WINDOW, BOUNDS)
    assert one.status is Status.GENERATOR
    assert one.reason == "the generator was late (p99 80 ms, limit 50 ms)"


def test_a_generator_that_uses_a_core_is_not_believed_either() -> None:
    records = [operation(100 + n / 100) for n in range(1000)]
    assert measured(records, live(0.79), 100, WINDOW, BOUNDS).status is Status.WITHIN
    busy = measured(records, live(0.9), 100, WINDOW, BOUNDS)
    assert (busy.status, busy.cores) == (Status.GENERATOR, 0.9)


def test_a_step_without_operations_says_nothing() -> None:
    one = measured([], [], 10, WINDOW, BOUNDS)
    assert (one.status, one.ok_share, one.p99_ms, one.attempts) == (Status.GENERATOR, 0.0, None, None)


def test_the_clients_own_retries_are_shown() -> None:
    assert measured([operation(101.0, attempts=3), operation(102.0)], [], 1, WINDOW, BOUNDS).attempts == 2.0


def test_the_bounds_themselves_are_still_within() -> None:
    edge = msgspec.structs.replace(step(100, ok=980), p99_ms=250.0, lag_p99_ms=50.0, cores=0.8)
    assert judged(edge, BOUNDS) == (Status.WITHIN, "")
    assert judged(msgspec.structs.replace(edge, p99_ms=250.1), BOUNDS)[0] is Status.BEYOND
    assert judged(msgspec.structs.replace(edge, ok=979), BOUNDS)[0] is Status.BEYOND


def test_a_good_step_above_a_bad_one_does_not_move_the_knee() -> None:
    one = found([step(50), step(100, Status.BEYOND), step(150)])
    assert (one.rate, one.beyond) == (50.0, 100.0)


def test_steps_of_a_late_generator_are_skipped_and_named() -> None:
    one = found(
        [step(50), step(100, Status.GENERATOR), step(150), step(200, Status.GENERATOR), step(250, Status.BEYOND)]
    )
    assert (one.rate, one.beyond) == (150.0, 250.0)
    assert "Not believed, as the generator was late: 100/s, 200/s." in one.sentence
    top = found([step(50), step(100, Status.GENERATOR)])
    assert (top.rate, top.beyond) == (50.0, None)
    assert "100/s" in top.sentence


def test_without_a_step_to_believe_nothing_is_claimed() -> None:
    for steps in ([], [step(50, Status.GENERATOR)]):
        assert (found(steps).rate, found(steps).beyond) == (None, None)


class Script:
    """Gives each rate's steps in turn, and remembers what was asked."""

    def __init__(self, **statuses: str) -> None:
        self._left: dict[float, Iterator[Status]] = {
            float(rate[1:]): iter(
                [{"w": Status.WITHIN, "b": Status.BEYOND, "g": Status.GENERATOR}[one] for one in word]
            )
            for rate, word in statuses.items()
        }
        self.asked: list[float] = []

    def perform(self, rate: float) -> Step:
        self.asked.append(rate)
        return step(rate, next(self._left[rate]))


def climbed(script: Script) -> list[Measured]:
    return list(climb((1.0, 2.0, 3.0, 4.0, 5.0), script.perform))


def test_one_hiccup_of_the_machine_is_measured_again_and_is_no_knee() -> None:
    script = Script(r1="w", r2="bw", r3="w", r4="gw", r5="w")
    steps = climbed(script)
    assert [one.step.status for one in steps] == [Status.WITHIN] * 5
    assert [one.superseded.status for one in steps if one.superseded is not None] == [Status.BEYOND, Status.GENERATOR]
    assert script.asked == [1, 2, 2, 3, 4, 4, 5]


def test_two_steps_beyond_end_the_climb_and_only_the_first_is_measured_twice() -> None:
    script = Script(r1="w", r2="bb", r3="b", r4="w", r5="w")
    assert [one.step.rate for one in climbed(script)] == [1.0, 2.0, 3.0]
    assert script.asked == [1, 2, 2, 3]


def test_a_second_measurement_that_cannot_be_believed_does_not_replace_the_first() -> None:
    steps = climbed(Script(r1="w", r2="bg", r3="b"))
    assert [one.step.status for one in steps] == [Status.WITHIN, Status.BEYOND, Status.BEYOND]


def test_a_generator_at_its_end_is_driven_no_further() -> None:
    script = Script(r1="w", r2="gg", r3="g", r4="w", r5="w")
    assert [one.step.status for one in climbed(script)][1:] == [Status.GENERATOR, Status.GENERATOR]
    assert script.asked == [1, 2, 2, 3]


def test_a_step_that_loses_half_of_its_operations_ends_the_climb_at_once() -> None:
    def perform(rate: float) -> Step:
        return step(rate, Status.WITHIN) if rate < 2 else step(rate, Status.BEYOND, ok=499)

    assert [one.step.rate for one in climb((1.0, 2.0, 3.0), perform)] == [1.0, 2.0]
