from __future__ import annotations

import pytest

from services.kit.current import Current


async def answers(it: str) -> bool:
    return it == "there"


async def test_it_is_there_from_the_start_to_the_end() -> None:
    current = Current[str]()
    ready = current.ready(answers)
    assert not await ready()
    with current.holding("there"):
        assert current() == "there"
        assert await ready()
    with current.holding("silent"):
        assert not await ready()
    assert not await ready()


def test_asking_while_nothing_runs_is_a_bug() -> None:
    current = Current[str]()
    with pytest.raises(RuntimeError, match="does not run"):
        current()
    with pytest.raises(ZeroDivisionError), current.holding("there"):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="does not run"):
        current()


async def test_what_is_known_at_once_is_asked_without_waiting() -> None:
    current = Current[str]()
    ready = current.ready(lambda it: it == "there")
    assert not await ready()
    with current.holding("there"):
        assert await ready()
