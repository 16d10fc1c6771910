"""What is away comes back, or the command says who did not."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from services.patterns.backoff import Backoff
from services.search.engine import EngineBusy, EngineDown, EngineRefused
from services.search.patience import OutOfPatience, Patience
from tests.unit.search.memory import Naps


def patience(naps: Naps, seconds: float = 20) -> Patience:
    return Patience(seconds, Backoff(0.1, 1), random.Random(1), naps.sleep, naps.now)


def failing(*errors: Exception) -> tuple[Callable[[], Awaitable[str]], list[Exception]]:
    left = list(errors)

    async def ask() -> str:
        if left:
            raise left.pop(0)
        return "found"

    return ask, left


async def test_a_query_that_was_refused_for_want_of_room_is_asked_again() -> None:
    naps = Naps()
    ask, _ = failing(EngineBusy("circuit breaker", "circuit_breaking_exception"), EngineDown("silent"))
    assert await patience(naps).ask("The engine", (EngineBusy, EngineDown), ask) == "found"
    assert len(naps.taken) == 2


async def test_patience_ends_and_says_with_whom() -> None:
    naps = Naps()
    ask, left = failing(*[EngineDown("silent")] * 10_000)
    with pytest.raises(OutOfPatience, match="The engine did not answer for 20 s: silent"):
        await patience(naps).ask("The engine", (EngineDown,), ask)
    assert left, "it went on for ever"
    assert naps.now() > 20


async def test_what_will_not_pass_is_raised_at_once() -> None:
    naps = Naps()
    ask, left = failing(EngineRefused("no such field"), EngineRefused("again"))
    with pytest.raises(EngineRefused):
        await patience(naps).ask("The engine", (EngineDown,), ask)
    assert len(left) == 1
    assert not naps.taken
