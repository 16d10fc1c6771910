"""What is remembered, how long, and how much of it."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.search.cache import ENTRY_BYTES, LARGEST_SHARE, Cache, Freshness


class Hand:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(clock: Hand, limit: int = 100_000, *, jitter: float = 0.0) -> Cache:
    return Cache(limit, 10.0, jitter=jitter, stale=100.0, clock=clock, random=Random(1))


def test_an_answer_is_a_hit_until_its_time_is_over_then_stale_then_gone() -> None:
    clock = Hand()
    cache = made(clock)
    cache.put("v1", "q", b"answer", cost=0.0)
    assert cache.get("v1", "q").freshness is Freshness.HIT
    clock.now = 10.0
    assert cache.get("v1", "q") == cache.get("v1", "q")
    assert cache.get("v1", "q").freshness is Freshness.STALE
    clock.now = 111.0
    assert cache.get("v1", "q").freshness is Freshness.MISS
    assert (len(cache), cache.bytes) == (0, 0)


def test_another_generation_of_the_index_makes_everything_stale() -> None:
    cache = made(Hand())
    cache.put("v1", "q", b"answer", cost=0.0)
    assert cache.get("v2", "q").freshness is Freshness.STALE
    cache.put("v2", "q", b"other", cost=0.0)
    assert cache.get("v2", "q").body == b"other"
    assert len(cache) == 1


def test_shortly_before_its_end_some_readers_are_to_make_it_anew() -> None:
    clock = Hand()
    cache = made(clock)
    cache.put("v1", "q", b"answer", cost=1.0)
    clock.now = 9.5
    found = [cache.get("v1", "q").freshness for _ in range(200)]
    assert 0 < found.count(Freshness.EARLY) < 200
    clock.now = 0.1
    assert {cache.get("v1", "q").freshness for _ in range(200)} == {Freshness.HIT}


def test_what_was_remembered_together_does_not_end_together() -> None:
    clock = Hand()
    cache = made(clock, jitter=0.2)
    for number in range(100):
        cache.put("v1", number, b"x", cost=0.0)
    clock.now = 10.0
    ended = sum(cache.get("v1", number).freshness is Freshness.STALE for number in range(100))
    assert 20 < ended < 80


def test_what_is_least_used_makes_room() -> None:
    size = 1000 + ENTRY_BYTES
    cache = made(Hand(), 10 * size)
    for number in range(10):
        cache.put("v1", number, b"x" * 1000, cost=0.0)
    cache.get("v1", 0)
    cache.put("v1", 10, b"x" * 1000, cost=0.0)
    assert cache.get("v1", 0).body
    assert not cache.get("v1", 1).body


def test_an_answer_that_would_push_out_all_others_is_not_kept() -> None:
    cache = made(Hand(), 80_000)
    cache.put("v1", "small", b"x", cost=0.0)
    cache.put("v1", "huge", b"x" * (80_000 // LARGEST_SHARE), cost=0.0)
    assert len(cache) == 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60), st.integers(0, 20_000))
def test_the_bound_holds_and_the_count_of_bytes_is_right(puts: list[tuple[int, int]], limit: int) -> None:
    cache = made(Hand(), limit)
    for key, size in puts:
        cache.put("v1", key, b"x" * size, cost=0.0)
        assert cache.bytes <= limit
    kept = sum(len(cache.get("v1", key).body) + ENTRY_BYTES for key in range(10) if cache.get("v1", key).body or False)
    empty = len(cache) - sum(1 for key in range(10) if cache.get("v1", key).body)
    assert cache.bytes == kept + empty * ENTRY_BYTES
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)
