"""Blocking calls of the runtime from the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import ParamSpec, TypeVar

from infra.runtime import Progress, Runtime, RuntimeProblem

UP_SECONDS = 120.0

P = ParamSpec("P")
T = TypeVar("T")


async def blocking(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run in a thread. When cancelled, wait for the thread first: two hands on one process tree would fight."""
    return await _to_the_end(asyncio.to_thread(call, *args, **kwargs), lambda: None)


async def until_told(call: Callable[[threading.Event], T]) -> T:
    """`blocking` for a call that ends soon after its event is set, which an interruption does."""
    interrupted = threading.Event()
    return await _to_the_end(asyncio.to_thread(call, interrupted), interrupted.set)


async def up(
    runtime: Runtime, services: Sequence[str], progress: Progress, *, env: Mapping[str, str] | None = None
) -> None:
    """`Runtime.up` that an interruption ends at its next step; what it has started is stopped again by the runtime."""
    interrupted = threading.Event()

    def report(text: str) -> None:
        if interrupted.is_set():
            raise RuntimeProblem("interrupted")
        progress(text)

    work = asyncio.to_thread(runtime.up, services, env=env, progress=report, timeout=UP_SECONDS)
    await _to_the_end(work, interrupted.set)


async def _to_the_end(work: Coroutine[object, object, T], on_cancel: Callable[[], None]) -> T:
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
