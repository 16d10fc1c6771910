"""Garbage in cycles is looked for seldom, and still found."""

from __future__ import annotations

import gc
import weakref

from services.kit import garbage


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


def test_garbage_is_still_collected_but_seldom() -> None:
    before = gc.get_threshold()
    try:
        garbage.collect_seldom()
        assert gc.isenabled()
        assert gc.get_threshold()[0] == garbage.THRESHOLD
        assert gc.get_freeze_count() > 0
        cycle = weakref.ref(Node())
        kept: list[list[int]] = []
        for _ in range(3 * garbage.THRESHOLD):
            kept.append([])
            if cycle() is None:
                break
        assert cycle() is None
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
