"""How often CPython looks for garbage in cycles. What is in none is freed at once, as ever."""

from __future__ import annotations

import gc

THRESHOLD = 20_000
"""Objects made and not freed since the last look."""


def collect_seldom() -> None:
    """Keep what the process has now out of every later look, and look less often.

    A request allocates some hundred objects, and next to none of them are in a cycle: with the default, a look after each
    700, a tenth to a quarter of the processor went into looking at what the process was started with (by py-spy: 10 % of a
    search that asks the engine, 19 % of one from the cache, 27 % at 1,000 searches a second).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)
