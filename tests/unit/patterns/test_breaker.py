from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.breaker import (
    BUCKETS,
    Breaker,
    CallEnded,
    CallRefused,
    Counts,
    Ending,
    Event,
    Forgotten,
    KeyedBreakers,
    KeysExhausted,
    Permit,
    Reason,
    Rule,
    State,
    StateChanged,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


RULE = Rule(window_seconds=10, minimum_calls=4, failure_share=0.5, open_seconds=2, probes=2)


def breaker() -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(RULE, clock), clock


def permit(made: Breaker) -> Permit:
    given_out = made.acquire()
    assert given_out is not None
    return given_out


def state(made: Breaker) -> State:
    return made.state


def call(made: Breaker, succeeded: bool) -> None:
    made.release(permit(made), succeeded)


def opened() -> tuple[Breaker, Clock]:
    made, clock = breaker()
    for _ in range(4):
        call(made, False)
    return made, clock


def test_too_few_calls_prove_nothing() -> None:
    made, _ = breaker()
    for _ in range(3):
        call(made, False)
    assert state(made) is State.CLOSED


def test_it_opens_at_the_share_and_not_below() -> None:
    made, _ = breaker()
    for succeeded in (True, True, True, False, False):
        call(made, succeeded)
    assert state(made) is State.CLOSED
    call(made, False)
    assert state(made) is State.OPEN
    assert made.acquire() is None


def test_failures_that_have_left_the_window_do_not_count() -> None:
    made, clock = breaker()
    for _ in range(3):
        call(made, False)
    clock.now += 10
    for succeeded in (True, True, True, False):
        call(made, succeeded)
    assert state(made) is State.CLOSED


def test_half_open_lets_only_so_many_probes_through_at_a_time() -> None:
    made, clock = opened()
    clock.now += 2
    assert state(made) is State.HALF_OPEN
    first, second = permit(made), permit(made)
    assert made.acquire() is None
    made.release(first, None)
    third = permit(made)
    made.release(second, True)
    assert state(made) is State.HALF_OPEN
    made.release(third, True)
    assert state(made) is State.CLOSED


def test_a_permit_taken_ahead_keeps_its_place_among_the_probes_until_it_is_redeemed() -> None:
    made, clock = opened()
    clock.now += 2
    ahead, second = permit(made), permit(made)
    assert made.acquire() is None
    redeemed = made.redeem(ahead)
    assert redeemed is not None
    assert made.acquire() is None
    made.release(redeemed, True)
    made.release(second, True)
    assert state(made) is State.CLOSED


def test_the_time_before_a_permit_is_redeemed_is_not_the_call_s() -> None:
    clock = Clock()
    made = Breaker(Rule(minimum_calls=1, slow_seconds=1.0), clock)
    ahead = permit(made)
    clock.now += 5
    redeemed = made.redeem(ahead)
    assert redeemed is not None
    clock.now += 1
    made.release(redeemed, True)
    assert (state(made), made.counts) == (State.CLOSED, Counts(1, 0, 0))


def test_a_permit_from_before_it_opened_is_worth_nothing() -> None:
    made, clock = breaker()
    old = [permit(made) for _ in range(3)]
    for _ in range(4):
        call(made, False)
    assert made.redeem(old[0]) is None
    clock.now += 2
    assert [made.redeem(each) is None for each in old] == [False, False, True]


def test_a_permit_whose_probe_was_given_up_is_worth_nothing() -> None:
    clock = Clock()
    made = Breaker(Rule(minimum_calls=1, open_seconds=2, probes=1, probe_seconds=10), clock)
    call(made, False)
    clock.now += 2
    ahead = permit(made)
    clock.now += 10
    assert made.redeem(ahead) is None
    assert state(made) is State.OPEN


def test_one_failed_probe_opens_it_for_another_while() -> None:
    made, clock = opened()
    clock.now += 2
    first, second = permit(made), permit(made)
    made.release(first, False)
    assert state(made) is State.OPEN
    made.release(second, True)
    clock.now += 1.9
    assert state(made) is State.OPEN
    clock.now += 0.1
    assert state(made) is State.HALF_OPEN


def test_what_began_before_it_opened_is_not_taken_for_a_probe() -> None:
    made, clock = breaker()
    old = [permit(made) for _ in range(10)]
    for _ in range(4):
        call(made, False)
    clock.now += 2
    assert state(made) is State.HALF_OPEN
    for each in old:
        made.release(each, True)
    assert state(made) is State.HALF_OPEN


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_seconds": 0}, {"probes": 0}, {"failure_share": 0}, {"failure_share": 1.1}, {"slow_share": 0},
        {"slow_seconds": 0}, {"probe_seconds": -1}, {"window_seconds": float("nan")},
    ],
)  # fmt: skip
def test_an_impossible_rule_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above"):
        Rule(**wrong)  # type: ignore[arg-type]  # the values are what is wrong


@given(
    st.lists(
        st.tuples(st.sampled_from(["call", "end", "wait"]), st.sampled_from([True, False, None]), st.integers(0, 9))
    )
)
def test_whatever_happens_probes_are_bounded_and_it_closes_again_once_all_is_well(
    steps: list[tuple[str, bool | None, int]],
) -> None:
    made, clock = breaker()
    running: list[Permit] = []
    epochs_probing: dict[int, int] = {}
    for what, succeeded, number in steps:
        if what == "wait":
            clock.now += number / 3
        elif what == "call":
            before = made.state
            given_out = made.acquire()
            if given_out is not None:
                running.append(given_out)
                if before is State.HALF_OPEN:
                    epochs_probing[given_out.epoch] = epochs_probing.get(given_out.epoch, 0) + 1
        elif running:
            ended = running.pop(number % len(running))
            made.release(ended, succeeded)
            if ended.epoch in epochs_probing:
                epochs_probing[ended.epoch] -= 1
        assert all(count <= RULE.probes for count in epochs_probing.values())
    clock.now += RULE.open_seconds
    for each in running:
        made.release(each, None)
    clock.now += RULE.open_seconds
    for _ in range(RULE.probes):
        call(made, True)
    assert state(made) is State.CLOSED
    assert made.acquire() is not None


# --- slow calls ---------------------------------------------------------------------------------------------------------

SLOW = Rule(window_seconds=10, minimum_calls=4, open_seconds=2, probes=2, slow_seconds=1.0, slow_share=0.5)


def timed(made: Breaker, clock: Clock, seconds: float, succeeded: bool | None = True) -> None:
    given_out = permit(made)
    clock.now += seconds
    made.release(given_out, succeeded)


def test_calls_that_succeed_too_slowly_open_it_too() -> None:
    clock = Clock()
    made = Breaker(SLOW, clock)
    for seconds in (0.1, 0.1, 1.1):
        timed(made, clock, seconds)
    assert state(made) is State.CLOSED
    timed(made, clock, 1.1)
    assert state(made) is State.OPEN


def test_exactly_as_long_as_allowed_is_not_slow() -> None:
    clock = Clock()
    made = Breaker(Rule(slow_seconds=1.0, minimum_calls=1, slow_share=0.1), clock)
    given_out = permit(made)
    clock.now = given_out.began + 1.0
    made.release(given_out, True)
    assert made.counts == Counts(calls=1, failed=0, slow=0)


def test_a_slow_probe_opens_it_again() -> None:
    clock = Clock()
    made = Breaker(SLOW, clock)
    for _ in range(4):
        timed(made, clock, 1.1)
    clock.now += 2
    timed(made, clock, 1.1)
    assert state(made) is State.OPEN


def test_time_does_not_matter_unless_the_rule_says_so() -> None:
    made, clock = breaker()
    for _ in range(20):
        timed(made, clock, 100)
    assert state(made) is State.CLOSED


def test_a_call_that_says_nothing_counts_for_nothing_however_long_it_took() -> None:
    clock = Clock()
    made = Breaker(SLOW, clock)
    for _ in range(20):
        timed(made, clock, 5, None)
    assert state(made) is State.CLOSED
    assert made.counts == Counts()


# --- lost probes, forcing, looking ahead ----------------------------------------------------------------------------------


def test_a_probe_that_never_comes_back_is_taken_for_a_failed_one() -> None:
    clock = Clock()
    made = Breaker(Rule(minimum_calls=1, open_seconds=2, probes=1, probe_seconds=30), clock)
    call(made, False)
    clock.now += 2
    lost = permit(made)
    assert made.acquire() is None
    clock.now += 30
    assert state(made) is State.OPEN
    clock.now += 2
    call(made, True)
    assert state(made) is State.CLOSED
    made.release(lost, False)
    assert state(made) is State.CLOSED


def test_forced_open_it_lets_nobody_through_however_long_that_lasts() -> None:
    made, clock = breaker()
    made.force(State.OPEN)
    clock.now += 1000
    assert made.acquire() is None
    assert made.forced is State.OPEN
    assert made.retry_after == RULE.open_seconds
    made.force(None)
    assert made.forced is None
    assert made.acquire() is not None


def test_forced_closed_it_lets_everybody_through_and_starts_afresh_when_released() -> None:
    made, _ = opened()
    made.force(State.CLOSED)
    for _ in range(20):
        call(made, False)
    assert state(made) is State.CLOSED
    made.force(None)
    assert made.counts == Counts()
    for _ in range(4):
        call(made, False)
    assert state(made) is State.OPEN


def test_what_began_before_it_was_forced_does_not_count_after() -> None:
    made, _ = breaker()
    old = [permit(made) for _ in range(4)]
    made.force(State.CLOSED)
    made.force(None)
    for each in old:
        made.release(each, False)
    assert state(made) is State.CLOSED


def test_releasing_what_is_not_forced_changes_nothing() -> None:
    made, _ = opened()
    made.force(None)
    assert state(made) is State.OPEN


def test_half_open_cannot_be_forced() -> None:
    made, _ = breaker()
    with pytest.raises(ValueError, match="half-open"):
        made.force(State.HALF_OPEN)


def test_it_says_when_asking_again_makes_sense() -> None:
    made, clock = opened()
    assert not made.would_permit
    assert made.retry_after == 2
    clock.now += 1.5
    assert made.retry_after == 0.5
    clock.now += 0.5
    assert made.would_permit
    assert made.retry_after == 0
    permit(made), permit(made)
    assert not made.would_permit
    assert made.retry_after == RULE.open_seconds


# --- events -------------------------------------------------------------------------------------------------------------


def test_it_tells_of_every_change_with_its_reason_and_counts() -> None:
    seen: list[Event] = []
    clock = Clock()
    made = Breaker(RULE, clock, name="shard-3", on_event=seen.append)
    for succeeded in (True, True, False, False):
        call(made, succeeded)
    assert made.acquire() is None
    clock.now += 2
    timed(made, clock, 0.5, None)
    call(made, True)
    call(made, True)
    changes = [event for event in seen if isinstance(event, StateChanged)]
    assert changes == [
        StateChanged("shard-3", State.CLOSED, State.OPEN, Reason.FAILURES, Counts(4, 2, 0)),
        StateChanged("shard-3", State.OPEN, State.HALF_OPEN, Reason.OPEN_TIME_OVER, Counts()),
        StateChanged("shard-3", State.HALF_OPEN, State.CLOSED, Reason.PROBES_SUCCEEDED, Counts()),
    ]
    assert CallRefused("shard-3", State.OPEN) in seen
    assert CallEnded("shard-3", Ending.IGNORED, 0.5) in seen
    endings = [event.ending for event in seen if isinstance(event, CallEnded)]
    assert endings.count(Ending.FAILED) == 2


def test_each_way_into_a_state_has_its_reason() -> None:
    seen: list[Event] = []
    clock = Clock()
    made = Breaker(SLOW, clock, on_event=seen.append)
    for _ in range(4):
        timed(made, clock, 1.1)
    clock.now += 2
    timed(made, clock, 1.1)
    clock.now += 2
    call(made, False)
    made.force(State.CLOSED)
    made.force(None)
    reasons = [event.reason for event in seen if isinstance(event, StateChanged)]
    assert reasons == [
        Reason.SLOW_CALLS, Reason.OPEN_TIME_OVER, Reason.PROBE_SLOW, Reason.OPEN_TIME_OVER, Reason.PROBE_FAILED,
        Reason.FORCED, Reason.RELEASED,
    ]  # fmt: skip


# --- properties -----------------------------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.booleans()), max_size=80)


@given(STEPS)
def test_closed_it_opens_exactly_when_the_window_says_so(steps: list[tuple[float, bool, bool]]) -> None:
    rule = Rule(
        window_seconds=10, minimum_calls=4, failure_share=0.5, slow_seconds=1.0, slow_share=0.75, open_seconds=1e9
    )
    clock = Clock()
    made = Breaker(rule, clock)
    ended: list[tuple[int, bool, bool]] = []
    for pause, succeeded, slow in steps:
        clock.now += pause
        timed(made, clock, 1.5 if slow else 0.0, succeeded)
        bucket = int(clock.now // (rule.window_seconds / BUCKETS))
        ended.append((bucket, not succeeded, slow))
        inside = [one for one in ended if one[0] > bucket - BUCKETS]
        failed, late = sum(one[1] for one in inside), sum(one[2] for one in inside)
        bad = failed >= 0.5 * len(inside) or late >= 0.75 * len(inside)
        if len(inside) >= 4 and bad and (slow or not succeeded):
            assert state(made) is State.OPEN
            return
        assert state(made) is State.CLOSED
        assert made.counts == Counts(len(inside), failed, late)


@given(st.lists(st.tuples(st.sampled_from(["call", "wait", "force", "lose"]), st.integers(0, 9), st.booleans())))
def test_its_story_has_no_gaps_and_every_refusal_is_told(steps: list[tuple[str, int, bool]]) -> None:
    seen: list[Event] = []
    clock = Clock()
    made = Breaker(Rule(10, 2, 0.5, 2, 2, slow_seconds=1, probe_seconds=5), clock, on_event=seen.append)
    refused = 0
    for what, number, flag in steps:
        if what == "wait":
            clock.now += number / 3
        elif what == "force":
            made.force([None, State.OPEN, State.CLOSED][number % 3])
        else:
            given_out = made.acquire()
            refused += given_out is None
            if given_out is not None and what == "call":
                clock.now += number / 4
                made.release(given_out, flag)
    told = State.CLOSED
    for event in seen:
        if isinstance(event, StateChanged):
            assert event.before is told
            told = event.after
    assert sum(isinstance(event, CallRefused) for event in seen) == refused


# --- keyed ----------------------------------------------------------------------------------------------------------------


def keyed(most_keys: int = 3) -> tuple[KeyedBreakers, Clock, list[Event]]:
    clock, seen = Clock(), list[Event]()
    return KeyedBreakers(RULE, clock, most_keys=most_keys, on_event=seen.append), clock, seen


def open_up(made: Breaker) -> None:
    for _ in range(4):
        call(made, False)


def test_one_dead_key_does_not_take_the_others_down() -> None:
    made, _, _ = keyed()
    open_up(made.of("a"))
    assert made.of("a").acquire() is None
    assert made.of("b").acquire() is not None


def test_the_longest_unused_closed_key_makes_room() -> None:
    made, _, seen = keyed()
    for key in ("a", "b", "c", "a"):
        made.of(key)
    made.of("d")
    assert [each.name for each in made] == ["c", "a", "d"]
    assert seen == [Forgotten("b")]


def test_an_open_key_is_kept_before_a_closed_one_and_goes_when_all_are_open() -> None:
    made, _, _ = keyed()
    open_up(made.of("a"))
    made.of("b"), made.of("c"), made.of("d")
    assert [each.name for each in made] == ["a", "c", "d"]
    for key in ("c", "d"):
        open_up(made.of(key))
    made.of("e")
    assert [each.name for each in made] == ["c", "d", "e"]


def test_what_somebody_has_forced_is_never_forgotten() -> None:
    made, _, _ = keyed(2)
    for key in ("a", "b"):
        made.of(key).force(State.CLOSED)
    with pytest.raises(KeysExhausted, match="forced by hand"):
        made.of("c")
    made.of("b").force(None)
    made.of("c")
    assert [each.name for each in made] == ["a", "c"]


def test_a_permit_of_a_forgotten_breaker_may_still_be_given_back() -> None:
    made, _, _ = keyed(1)
    first = made.of("a")
    given_out = permit(first)
    made.of("b")
    first.release(given_out, False)
    assert made.of("b").counts == Counts()


def test_no_room_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        KeyedBreakers(RULE, Clock(), most_keys=0)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=60))
def test_keys_are_bounded_and_a_key_that_never_failed_is_never_refused(steps: list[tuple[int, bool]]) -> None:
    made, clock, _ = keyed(4)
    failed: set[int] = set()
    for key, succeeded in steps:
        each = made.of(str(key))
        given_out = each.acquire()
        if given_out is None:
            assert key in failed
            clock.now += 1
            continue
        each.release(given_out, succeeded)
        if not succeeded:
            failed.add(key)
        assert len(made) <= 4
