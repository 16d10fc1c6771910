from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.patterns.breaker import Breaker, Permit, Rule, State


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


@pytest.mark.parametrize("wrong", [{"window_seconds": 0}, {"probes": 0}, {"failure_share": 0}, {"failure_share": 1.1}])
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
