import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.patterns.hedge import Hedge, hedge_budget
from services.patterns.retry import RetryBudget, Safety

READ = Safety.IDEMPOTENT


def always(delay: float = 0.0) -> Hedge:
    return Hedge(RetryBudget(lambda: 0.0, ratio=1.0, initial=10.0, most=10.0), lambda: delay)


def script(*calls: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
    """The nth call is the nth of these."""
    left = list(calls)
    return lambda: left.pop(0)()


async def never() -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def first() -> str:
    return "first"


async def second() -> str:
    return "second"


async def fails() -> str:
    raise OSError("broken")


async def test_a_fast_answer_needs_no_second_request() -> None:
    assert await always(delay=60).run(script(first), READ) == "first"


async def test_a_slow_one_is_asked_for_again_and_the_loser_is_cancelled() -> None:
    ended = asyncio.Event()

    async def slow() -> str:
        try:
            return await never()
        finally:
            ended.set()

    assert await always().run(script(slow, second), READ) == "second"
    assert ended.is_set()


async def test_the_first_may_still_win() -> None:
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "first"

    async def opens_the_gate() -> str:
        gate.set()
        return await never()

    assert await always().run(script(slow, opens_the_gate), READ) == "first"


async def test_an_error_of_one_waits_for_the_other() -> None:
    gate = asyncio.Event()

    async def fails_later() -> str:
        await gate.wait()
        raise OSError("first")

    async def opens_and_answers() -> str:
        gate.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "second"

    assert await always().run(script(fails_later, opens_and_answers), READ) == "second"


async def test_if_both_fail_it_is_the_first_one_s_error() -> None:
    gate = asyncio.Event()

    async def fails_later() -> str:
        await gate.wait()
        raise OSError("first")

    async def opens_and_fails() -> str:
        gate.set()
        raise OSError("second")

    with pytest.raises(OSError, match="first"):
        await always().run(script(fails_later, opens_and_fails), READ)


async def test_an_early_error_is_not_hedged() -> None:
    with pytest.raises(OSError, match="broken"):
        await always(delay=60).run(script(fails), READ)


async def test_who_cancels_the_caller_cancels_both() -> None:
    ended: list[int] = []
    begun = asyncio.Event()

    async def slow() -> str:
        try:
            return await never()
        finally:
            ended.append(1)

    async def slow_too() -> str:
        begun.set()
        return await slow()

    task = asyncio.create_task(always().run(script(slow, slow_too), READ))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(ended) == 2


@pytest.mark.parametrize("safety", [Safety.UNKNOWN_SAFE, Safety.ONCE])
async def test_only_reads_are_hedged(safety: Safety) -> None:
    with pytest.raises(ValueError, match="idempotent reads"):
        await always().run(script(first), safety)


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_a_server_that_is_slow_for_everybody_gets_a_twentieth_more_at_most(slow: list[bool]) -> None:
    sent = 0

    async def call_all() -> None:
        hedge = Hedge(hedge_budget(lambda: 0.0), lambda: 0.0)
        for number, is_slow in enumerate(slow, start=1):

            async def one(is_slow: bool = is_slow) -> str:
                nonlocal sent
                sent += 1
                # Past the delay of zero, so that every slow call would be hedged if it might.
                for _ in range(5 if is_slow else 0):
                    await asyncio.sleep(0)
                return "done"

            assert await hedge.run(one, READ) == "done"
            assert sent <= number * 1.05 + 1e-9

    asyncio.run(call_all())


async def test_hedges_are_counted() -> None:
    counted: list[int] = []
    hedge = Hedge(RetryBudget(lambda: 0.0, initial=1.0), lambda: 0.0, lambda: counted.append(1))
    assert await hedge.run(script(never, second), READ) == "second"
    assert counted == [1]
