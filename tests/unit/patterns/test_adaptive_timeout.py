import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.adaptive_timeout import AdaptiveTimeout, LatencySketch, TimeoutRule

RULE = TimeoutRule(floor=0.02, ceiling=10.0, initial=1.0)


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Naive:
    """What is often written: a high percentile of the last answers, with headroom; calls that timed out are not answers."""

    def __init__(self, percentile: float = 0.99, headroom: float = 1.5) -> None:
        self.seen: list[float] = []
        self.percentile = percentile
        self.headroom = headroom

    def record(self, seconds: float, *, censored: bool = False) -> None:
        if not censored:
            self.seen = [*self.seen[-199:], seconds]

    def seconds(self) -> float:
        if len(self.seen) < 20:
            return 1.0
        return sorted(self.seen)[int(self.percentile * len(self.seen))] * self.headroom


def answered(timeout: Naive | AdaptiveTimeout, latency: float, time: Time) -> bool:
    """One call of that latency under the present timeout."""
    time.now += 0.02
    given = timeout.seconds()
    timeout.record(min(latency, given), censored=latency > given)
    return latency <= given


def share_answered(
    timeout: Naive | AdaptiveTimeout, time: Time, *, median: float, calls: int, spread: float = 0.5
) -> float:
    """Of the last half of so many calls with log-normal latency."""
    draw = random.Random(calls)
    results = [answered(timeout, draw.lognormvariate(math.log(median), spread), time) for _ in range(calls)]
    return sum(results[calls // 2 :]) / (calls - calls // 2)


def test_the_naive_timeout_never_learns_that_the_server_became_slower() -> None:
    time = Time()
    naive = Naive()
    assert share_answered(naive, time, median=0.1, calls=2000, spread=0.1) > 0.97
    assert share_answered(naive, time, median=0.5, calls=4000, spread=0.1) == 0.0


def test_the_naive_timeout_shrinks_itself_to_death_though_the_server_is_as_it_was() -> None:
    assert share_answered(Naive(percentile=0.95, headroom=1.0), Time(), median=0.1, calls=5000) < 0.5
    ours = AdaptiveTimeout(TimeoutRule(floor=0.001, ceiling=10.0, initial=1.0, quantile=0.95, headroom=1.0), Time())
    assert share_answered(ours, Time(), median=0.1, calls=5000) > 0.93


def test_ours_learns_it() -> None:
    time = Time()
    ours = AdaptiveTimeout(RULE, time)
    assert share_answered(ours, time, median=0.1, calls=2000, spread=0.1) > 0.97
    assert share_answered(ours, time, median=0.5, calls=4000, spread=0.1) > 0.97


def test_ours_follows_it_up_and_down_again() -> None:
    time = Time()
    ours = AdaptiveTimeout(RULE, time)
    assert share_answered(ours, time, median=0.1, calls=2000) > 0.97
    fast = ours.seconds()
    assert share_answered(ours, time, median=1.0, calls=4000) > 0.97
    assert ours.seconds() > 2.0
    share_answered(ours, time, median=0.1, calls=15_000)
    assert ours.seconds() < 2 * fast


def test_it_recovers_when_at_first_every_single_call_is_cut() -> None:
    time = Time()
    ours = AdaptiveTimeout(TimeoutRule(floor=0.02, ceiling=10.0, initial=0.05), time)
    assert share_answered(ours, time, median=2.0, calls=2000) > 0.95


def test_floor_and_ceiling_hold() -> None:
    time = Time()
    ours = AdaptiveTimeout(RULE, time)
    for _ in range(100):
        ours.record(0.0001)
    assert ours.seconds() == 0.02
    for _ in range(1000):
        time.now += 1
        ours.record(ours.seconds(), censored=True)
    assert ours.seconds() == 10.0


def test_until_enough_is_known_the_initial_timeout_holds_and_there_is_no_quantile() -> None:
    ours = AdaptiveTimeout(RULE, Time())
    for _ in range(19):
        ours.record(0.001)
    assert ours.seconds() == 1.0
    assert ours.quantile(0.95) is None
    ours.record(0.001)
    assert ours.seconds() == 0.02
    assert ours.quantile(0.95) == pytest.approx(0.001, rel=0.06)


@given(
    st.lists(st.floats(min_value=1e-4, max_value=100), min_size=1, max_size=200),
    st.floats(min_value=0.01, max_value=0.99),
)
def test_without_cut_calls_a_quantile_is_the_ordinary_one_within_its_accuracy(
    values: list[float], share: float
) -> None:
    sketch = LatencySketch(Time())
    for value in values:
        sketch.record(value)
    exact = sorted(values)[max(0, math.ceil(share * len(values) - 1e-6) - 1)]
    found = sketch.quantile(share)
    assert found is not None
    assert exact * 0.94 <= found <= exact * 1.06


@given(st.lists(st.tuples(st.floats(min_value=0.01, max_value=10), st.booleans()), min_size=1, max_size=100))
def test_cut_calls_never_lower_a_quantile(calls: list[tuple[float, bool]]) -> None:
    """Against the same calls seen to their end there."""
    cut, whole = LatencySketch(Time()), LatencySketch(Time())
    for seconds, censored in calls:
        cut.record(seconds, censored=censored)
        whole.record(seconds)
    for share in (0.5, 0.9, 0.99):
        low, high = whole.quantile(share), cut.quantile(share)
        assert low is not None
        assert high is None or high >= low * 0.999


def test_kaplan_and_meier_s_textbook_case() -> None:
    """Ends at 1, 3, 5; cut at 2 and 4: S(1) = 4/5, S(3) = 4/5 * 2/3 = 0.533, S(5) = 0."""
    sketch = LatencySketch(Time(), accuracy=0.01)
    for seconds, censored in ((1, False), (2, True), (3, False), (4, True), (5, False)):
        sketch.record(seconds, censored=censored)
    assert sketch.quantile(0.2) == pytest.approx(1, rel=0.02)
    assert sketch.quantile(0.4) == pytest.approx(3, rel=0.02)
    assert sketch.quantile(0.47) == pytest.approx(5, rel=0.02)


def test_old_observations_lose_half_their_weight_each_half_life() -> None:
    time = Time()
    sketch = LatencySketch(time, half_life_seconds=10)
    for _ in range(80):
        sketch.record(1.0)
    time.now += 30
    assert sketch.count == pytest.approx(10)
    for _ in range(20):
        sketch.record(0.1)
    assert sketch.quantile(0.5) == pytest.approx(0.1, rel=0.06)


def test_weights_stay_finite_for_weeks() -> None:
    time = Time()
    sketch = LatencySketch(time, half_life_seconds=1)
    for _ in range(2000):
        time.now += 1000
        sketch.record(0.1)
    assert sketch.count == pytest.approx(1, abs=0.01)
    assert sketch.quantile(0.99) == pytest.approx(0.1, rel=0.06)


def test_nothing_known_is_none() -> None:
    sketch = LatencySketch(Time())
    assert sketch.quantile(0.5) is None
    assert sketch.longest_cut() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"floor": 0.0},
        {"floor": 2.0},
        {"ceiling": 0.5},
        {"quantile": 1.0},
        {"headroom": 0.5},
        {"growth": 1.0},
        {"minimum_calls": 0.0},
    ],
)
def test_a_rule_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a timeout needs"):
        TimeoutRule(**({"floor": 0.1, "ceiling": 1.0, "initial": 1.0} | wrong))


@pytest.mark.parametrize("wrong", [{"accuracy": 0.0}, {"accuracy": 1.0}, {"half_life_seconds": 0.0}])
def test_a_sketch_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a sketch needs"):
        LatencySketch(Time(), **wrong)


def test_calls_that_others_cut_early_do_not_lower_the_timeout() -> None:
    """A hedge's loser, a caller with hardly any time: they say only that it takes longer than that."""
    ours = AdaptiveTimeout(RULE, Time())
    for _ in range(100):
        ours.record(0.005, censored=True)
    assert ours.seconds() >= RULE.initial
