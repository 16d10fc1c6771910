"""Hedged requests: when a read takes longer than most, ask a second time and take the first answer.

Dean and Barroso, "The Tail at Scale" (CACM 2013): sending the second request after the 95th percentile cuts the tail for some
5 % of extra load. Here the 5 % is a token bucket, so that a server that is slow for *everybody* is not asked twice by
everybody. Only for idempotent reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from services.patterns.retry import RetryBudget, Safety

EXTRA = 0.05

T = TypeVar("T")


def hedge_budget(clock: Callable[[], float], *, extra: float = EXTRA, most: float = 10.0) -> RetryBudget:
    """Never more hedges than `extra` of all calls so far; saved up to `most` at a time."""
    return RetryBudget(clock, ratio=extra, reserve_per_second=0.0, initial=0.0, most=most)


class Hedge:
    """`delay` says, at each call, after how many seconds the second request goes out: the 95th percentile of latency.

    `on_hedge` is called for each second request, for a metric.
    """

    def __init__(
        self, budget: RetryBudget, delay: Callable[[], float], on_hedge: Callable[[], None] = lambda: None
    ) -> None:
        self._budget = budget
        self._delay = delay
        self._on_hedge = on_hedge

    async def run(self, call: Callable[[], Awaitable[T]], safety: Safety) -> T:
        """The first success of at most two; if all fail, the first one's error. The loser is cancelled and awaited.

        A first request that fails before the delay is not hedged: that is a retry's business. Raises ValueError for a
        call that is not IDEMPOTENT.
        """
        if safety is not Safety.IDEMPOTENT:
            raise ValueError("only idempotent reads are hedged")
        self._budget.deposit()
        first = asyncio.ensure_future(call())
        running = [first]
        try:
            done, _ = await asyncio.wait(running, timeout=self._delay())
            if not done and self._budget.withdraw():
                self._on_hedge()
                running.append(asyncio.ensure_future(call()))
            await _first_success(running)
            return next((each for each in running if _succeeded(each)), first).result()
        finally:
            await _end(running)


async def _first_success(running: Sequence[asyncio.Future[T]]) -> None:
    pending = set(running)
    while pending and not any(_succeeded(each) for each in running):
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


def _succeeded(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


async def _end(running: Sequence[asyncio.Future[T]]) -> None:
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
