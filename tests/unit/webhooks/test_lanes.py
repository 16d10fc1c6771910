"""No lane takes another's slots, and all get their turn."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.webhooks.lanes import IDLE_SECONDS, Lanes, Rest


def lanes(slots: int = 100, slow_slots: int = 40, bound: int = 4) -> Lanes[str]:
    return Lanes(slots=slots, slow_slots=slow_slots, bound=bound, slow_after=2.0, rest=Rest(15.0, 300.0))


def begin(made: Lanes[str], now: float = 0.0, limit: int = 1000) -> dict[str, list[str]]:
    """Claim all that the plan allows; the attempts by lane."""
    attempts: dict[str, list[str]] = {}
    for key, wanted in made.plan(now, limit).items():
        for number in range(wanted):
            attempt = f"{key}/{now}/{number}"
            made.begin(key, attempt, now)
            attempts.setdefault(key, []).append(attempt)
        made.claimed(key, wanted, wanted)
    return attempts


def finish(made: Lanes[str], attempts: dict[str, list[str]], *, well: bool | None = True, now: float = 0.0) -> None:
    for key, each in attempts.items():
        for attempt in each:
            made.end(key, attempt, now, well=well)
            made.durable(1)


def test_a_lane_begins_with_one_and_doubles_up_to_its_bound() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    seen = []
    for _ in range(4):
        attempts = begin(made)
        seen.append(len(attempts["a"]))
        finish(made, attempts)
    assert seen == [1, 2, 4, 4]


def test_a_lane_that_times_out_falls_back_to_one_in_the_slow_pool() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    for _ in range(3):
        finish(made, begin(made))
    finish(made, begin(made), well=False, now=15.0)
    assert len(begin(made, now=15.0)["a"]) == 1
    assert made.slow == 1


def test_a_lane_may_be_forgotten_while_its_claim_is_under_way() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    assert made.plan(0, 10) == {"a": 1}
    made.unwanted("a")
    made.tick(0)
    made.begin("a", 1, 0)
    made.claimed("a", 1, 1)
    assert made.in_flight == 1
    made.ready("b", None, None, 0)
    assert made.plan(0, 10) == {"b": 1}
    made.unwanted("b")
    made.tick(0)
    made.claimed("b", 1, 0)


def test_a_lane_that_is_idle_for_long_is_forgotten_however_well_it_did() -> None:
    made = lanes()
    for _ in range(3):
        made.ready("a", 1000, None, 0)
        finish(made, begin(made))
    made.unwanted("a")
    made.tick(10)
    made.tick(9 + IDLE_SECONDS)
    assert made.known == 1
    made.tick(10 + IDLE_SECONDS)
    assert made.known == 0


def test_lanes_that_hang_hold_no_slot_of_those_that_answer() -> None:
    made = lanes(slots=100, slow_slots=40)
    for number in range(10):
        made.ready(f"good-{number}", None, None, 0)
    for _ in range(3):
        finish(made, begin(made))
    for number in range(500):
        made.ready(f"hangs-{number}", None, None, 0)
    for second in range(5):
        attempts = begin(made, now=second)
        hanging = {key: each for key, each in attempts.items() if key.startswith("hangs")}
        good = {key: each for key, each in attempts.items() if key.startswith("good")}
        assert sum(map(len, hanging.values())) == (40 if second == 0 else 0)
        assert {key: len(each) for key, each in good.items()} == {f"good-{number}": 4 for number in range(10)}
        finish(made, good)
        made.tick(second)
        assert made.slow == 40


def test_a_good_lane_that_begins_to_hang_gives_the_fast_pool_back_before_its_timeout() -> None:
    made = lanes(slots=10, slow_slots=2, bound=4)
    for name in ("a", "b", "c"):
        made.ready(name, None, None, 0)
    for _ in range(4):
        finish(made, begin(made))
    held = begin(made, now=1.0)
    assert sum(map(len, held.values())) == 8
    assert begin(made, now=1.5) == {}
    made.tick(3.5)
    assert made.slow == 8
    back = next(iter(held))
    finish(made, {back: held[back]}, well=True)
    assert made.slow == 4
    assert sum(map(len, begin(made, now=3.5).values())) == 6


def test_a_slot_is_held_until_its_outcome_is_durable() -> None:
    made = lanes(slots=2, slow_slots=1)
    made.ready("a", None, None, 0)
    (attempt,) = begin(made)["a"]
    made.end("a", attempt, 0, well=True)
    assert made.in_flight == 1
    made.durable(1)
    assert made.in_flight == 0


def test_a_rate_bounds_what_is_planned() -> None:
    made = lanes()
    made.ready("a", 8, None, 0)
    total = 0
    for tenth in range(10):
        attempts = begin(made, now=tenth / 10)
        total += sum(map(len, attempts.values()))
        finish(made, attempts)
    assert total <= 2 + 8


def test_a_paused_lane_is_left_alone_until_its_time() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    made.pause("a", 10)
    assert made.plan(9.9, 10) == {}
    assert made.plan(10, 10) == {"a": 1}


def test_a_lane_without_more_work_is_not_planned_until_it_is_ready_again() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    made.claimed("a", 1, 0)
    assert made.plan(0, 10) == {}
    made.ready("a", None, None, 0)
    assert made.plan(0, 10) == {"a": 1}


def test_a_lane_that_is_not_wanted_any_more_is_not_planned() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    made.unwanted("a")
    made.unwanted("never seen")
    assert made.plan(0, 10) == {}


def test_everybody_gets_a_turn_when_a_plan_cannot_hold_all() -> None:
    made = lanes(slots=100, slow_slots=90)
    names = [f"lane-{number}" for number in range(30)]
    for name in names:
        made.ready(name, None, None, 0)
    served: set[str] = set()
    for _ in range(6):
        attempts = begin(made, limit=5)
        served |= attempts.keys()
        finish(made, attempts, well=False)
    assert served == set(names)


def hang(made: Lanes[str], names: list[str], *, until: float, timeout: float = 15.0) -> list[tuple[float, str]]:
    """Let the dispatcher's day pass, in steps of half a second, with lanes that never answer; (time, name) of each attempt."""
    log: list[tuple[float, str]] = []
    pending: deque[tuple[float, str, str]] = deque()
    now = 0.0
    while now <= until:
        while pending and pending[0][0] <= now:
            _, key, attempt = pending.popleft()
            made.end(key, attempt, now, well=False)
            made.durable(1)
        made.tick(now)
        for name in names:
            made.ready(name, None, None, now)
        for key, attempts in begin(made, now=now).items():
            pending += [(now + timeout, key, attempt) for attempt in attempts]
            log += [(now, key)] * len(attempts)
        now += 0.5
    return log


@pytest.mark.slow
def test_a_thousand_lanes_that_hang_soon_hold_few_slots_and_leave_the_new_ones_room() -> None:
    made = lanes(slots=1000, slow_slots=400)
    names = [f"hangs-{number}" for number in range(1000)]
    log = hang(made, names, until=900)
    assert {name for _, name in log} == set(names)
    assert made.slow < 300
    made.ready("new", None, None, 900)
    assert begin(made, now=900.0)["new"] == ["new/900.0/0"]


@pytest.mark.slow
def test_without_a_rest_a_thousand_lanes_that_hang_hold_all_that_suspects_may_hold() -> None:
    made: Lanes[str] = Lanes(slots=1000, slow_slots=400, bound=4, slow_after=2.0, rest=Rest(0.0, 0.0))
    hang(made, [f"hangs-{number}" for number in range(1000)], until=900)
    assert made.slow >= 300


def test_suspects_never_take_the_places_that_are_kept_for_the_unknown() -> None:
    made = lanes(slots=100, slow_slots=40)
    for number in range(500):
        made.ready(f"failing-{number}", None, None, 0, failing=True)
    assert sum(map(len, begin(made).values())) == 30
    for number in range(20):
        made.ready(f"new-{number}", None, None, 0)
    assert sum(map(len, begin(made).values())) == 10
    assert made.slow == 40


def test_what_was_known_before_a_restart_counts_only_until_the_lane_answers() -> None:
    made = lanes(slots=100, slow_slots=4)
    made.ready("a", None, None, 0, failing=True)
    assert made.slow == 0
    finish(made, begin(made))
    made.ready("a", None, None, 0, failing=True)
    assert len(begin(made)["a"]) == 2
    assert made.slow == 0


def test_timeouts_in_a_row_are_followed_by_rests_that_double_up_to_a_limit() -> None:
    made = lanes()
    attempts = [at for at, _ in hang(made, ["a"], until=1500)]
    pauses = [later - earlier - 15 for earlier, later in itertools.pairwise(attempts)]
    assert pauses[:6] == [0, 15, 30, 60, 120, 240]
    assert set(pauses[6:]) == {300}


def test_attempts_that_time_out_together_count_once_and_an_answer_ends_the_row() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    for _ in range(3):
        finish(made, begin(made))
    together = begin(made, now=1.0)
    assert len(together["a"]) == 4
    finish(made, together, well=False, now=16.0)
    again = begin(made, now=16.0)
    assert len(again["a"]) == 1
    finish(made, again, well=False, now=31.0)
    assert begin(made, now=45.9) == {}
    finish(made, begin(made, now=46.0), now=46.1)
    finish(made, begin(made, now=47.0), well=False, now=62.0)
    assert len(begin(made, now=62.0)["a"]) == 1


def test_a_lane_that_timed_out_is_not_forgotten_between_two_attempts() -> None:
    made = lanes()
    made.ready("a", None, None, 0)
    finish(made, begin(made), well=False, now=15.0)
    made.unwanted("a")
    made.tick(20)
    made.tick(300)
    assert made.known == 1
    made.tick(20 + IDLE_SECONDS)
    assert made.known == 0


@pytest.mark.parametrize(("slots", "slow"), [(1, 1), (10, 10), (10, 0), (10, 11)])
def test_a_pool_without_room_for_both_kinds_is_refused(slots: int, slow: int) -> None:
    with pytest.raises(ValueError, match="slow_slots"):
        lanes(slots, slow)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, the books agree and no bound is broken."""

    SLOTS, SLOW, BOUND = 12, 4, 3

    def __init__(self) -> None:
        super().__init__()
        self.made: Lanes[str] = Lanes(
            slots=self.SLOTS, slow_slots=self.SLOW, bound=self.BOUND, slow_after=2.0, rest=Rest(1.0, 4.0)
        )
        self.now = 0.0
        self.open: list[tuple[str, int]] = []
        self.owed = 0
        self.number = 0

    @rule(name=st.sampled_from("abcdef"), failing=st.booleans())
    def ready(self, name: str, failing: bool) -> None:
        self.made.ready(name, None, None, self.now, failing=failing)

    @rule(limit=st.integers(1, 20), brings=st.floats(0, 1))
    def claim(self, limit: int, brings: float) -> None:
        plan = self.made.plan(self.now, limit)
        assert sum(plan.values()) <= limit
        for name, wanted in plan.items():
            got = round(wanted * brings)
            for _ in range(got):
                self.number += 1
                self.made.begin(name, self.number, self.now)
                self.open.append((name, self.number))
            self.made.claimed(name, wanted, got)

    @rule(which=st.integers(0, 100), well=st.sampled_from([True, False, None]))
    def end(self, which: int, well: bool | None) -> None:
        if self.open:
            name, attempt = self.open.pop(which % len(self.open))
            self.made.end(name, attempt, self.now, well=well)
            self.owed += 1

    @rule()
    def commit(self) -> None:
        self.made.durable(self.owed)
        self.owed = 0

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.made.tick(self.now)

    @invariant()
    def the_books_agree(self) -> None:
        assert self.made.in_flight == len(self.open) + self.owed
        assert self.made.in_flight <= self.SLOTS
        assert 0 <= self.made.slow <= len(self.open)
        for name in "abcdef":
            assert sum(key == name for key, _ in self.open) <= self.BOUND


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
