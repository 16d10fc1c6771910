from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.client import Result
from benchmarks.search import (
    FACTOR,
    FIRST_RATE,
    bodies,
    buckets,
    first_rate,
    quantile,
    safe_rate,
    sample,
    uncached,
)

TEXT = """\
# HELP x y
search_cache_lookups_total{kind="results",result="hit"} 8.0
search_cache_lookups_total{kind="results",result="miss"} 2.0
search_cache_lookups_total{kind="facets",result="hit"} 5.0
search_freshness_seconds_bucket{le="1.0"} 90.0
search_freshness_seconds_bucket{le="2.0"} 99.0
search_freshness_seconds_bucket{le="+Inf"} 100.0
"""


def answered(rate: float, share: float, seconds: float) -> Result:
    """A step of one second in which so many were answered with 200 after so long."""
    result = Result(seconds=1.0)
    for number in range(int(rate)):
        result.add(200 if number < share * rate else 503, seconds)
    return result


def ladder(limits: Sequence[tuple[float, float, float]]) -> tuple[float, list[float]]:
    """`limits`: above each rate this share is answered, after so many seconds."""
    import asyncio

    asked: list[float] = []

    async def measure(rate: float, _: int) -> Result:
        asked.append(rate)
        share, seconds = next((s, t) for least, s, t in reversed(limits) if rate >= least)
        return answered(rate, share, seconds)

    return asyncio.run(safe_rate(measure)), asked


@pytest.mark.parametrize("beyond", [(1.0, 0.3), (0.9, 0.01)])
def test_the_ladder_ends_where_answers_come_late_or_not_at_all(beyond: tuple[float, float]) -> None:
    safe, asked = ladder([(0, 1.0, 0.01), (60, *beyond)])
    assert safe == int(FIRST_RATE * FACTOR * FACTOR)
    assert len(asked) == 4


def test_who_is_slow_from_the_start_has_no_safe_rate() -> None:
    assert ladder([(0, 1.0, 0.5)])[0] == 0


def test_the_ladder_of_a_larger_catalogue_begins_lower() -> None:
    assert first_rate(50_000) == first_rate(1_000_000) == FIRST_RATE
    assert first_rate(10_000_000) == FIRST_RATE / 10


def test_samples_are_found_by_their_labels() -> None:
    assert sample(TEXT, "search_cache_lookups_total", 'kind="results"') == 10
    assert sample(TEXT, "search_cache_lookups_total", 'kind="results"', 'result="hit"') == 8
    assert sample(TEXT, "search_cache", 'kind="results"') == 0


def test_a_quantile_is_of_what_came_between() -> None:
    after = buckets(TEXT, "search_freshness_seconds")
    assert quantile({}, after, 0.9) == 1.0
    assert quantile({}, after, 0.99) == 2.0
    assert quantile({1.0: 90.0, 2.0: 90.0, float("inf"): 90.0}, after, 0.5) == 2.0
    assert quantile(after, after, 0.5) is None


def test_the_raw_engine_gets_the_body_that_gave_the_answer() -> None:
    exact, loose = bodies(["red boots", "red bots"], frozenset({"red bots"}))
    assert exact != loose
    assert "fuzzy" in str(loose) or "fuzziness" in str(loose)
    assert "fuzziness" not in str(exact)


def test_an_uncached_search_says_that_it_wants_no_memory() -> None:
    (request,) = uncached("h", 1, ["rote Schuhe & mehr"])
    assert b"GET /v1/search?facets=none&q=rote+Schuhe+%26+mehr HTTP/1.1\r\n" in request
    assert b"Cache-Control: no-cache\r\n" in request
    assert request.endswith(b"\r\n\r\n")
