"""Boosts are bounded, and no boost and no taste lifts what only resembles the query above an exact match."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.search.ranking import (
    MOST_SPREAD,
    RANKINGS,
    Context,
    Interaction,
    Kind,
    Ranking,
    Signals,
    personal,
    ranked,
)
from services.search.ranking.boosts import Boost, Freshness, Popularity, Stock, Taste

NOW = datetime(2026, 1, 1, 12, 34, tzinfo=UTC)
PATHS = ("fashion/shoes/running", "fashion/shoes/sandals", "home/kitchen/pans", "tools")

signals = st.builds(
    Signals,
    popularity=st.integers(0, 1_000_000),
    created_at=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    in_stock=st.booleans(),
    brand_id=st.integers(1, 4),
    categories=st.sampled_from([("fashion", "fashion/shoes", "fashion/shoes/running"), ("home",), ("tools",)]),
)
events = st.lists(
    st.builds(
        Interaction,
        kind=st.sampled_from(Kind),
        brand_id=st.integers(1, 4),
        category=st.sampled_from(PATHS),
        at=st.datetimes(datetime(2025, 1, 1), datetime(2026, 6, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
    max_size=200,
)


@given(signals, events, st.sampled_from(list(RANKINGS.values())))
def test_every_factor_stays_within_its_bounds(product: Signals, history: list[Interaction], ranking: Ranking) -> None:
    context = Context(NOW, personal(history, NOW))
    for boost in ranking.boosts:
        assert boost.low - 1e-9 <= boost.factor(product, context) <= boost.high + 1e-9


@given(signals, signals, events, st.sampled_from(list(RANKINGS.values())), st.floats(0.01, 1000))
def test_nothing_about_products_or_people_hides_an_exact_match(
    exact: Signals, similar: Signals, history: list[Interaction], ranking: Ranking, score: float
) -> None:
    """`text_query` keeps an exact match MOST_SPREAD times above what only resembles the query; that is enough."""
    context = Context(NOW, personal(history, NOW))
    of_exact = score * MOST_SPREAD * ranking.factor(exact, context)
    assert of_exact >= score * ranking.factor(similar, context) * (1 - 1e-9)


@given(events, signals)
def test_taste_only_lifts_and_never_by_more_than_its_cap(history: list[Interaction], product: Signals) -> None:
    factor = Taste(0.25).factor(product, Context(NOW, personal(history, NOW)))
    assert 1.0 <= factor <= 1.25


def test_a_ranking_that_could_hide_an_exact_match_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spread scores 10\.00 times; 4 is the most"):
        Ranking("greedy", boosts=(Popularity(1.0, most=10.0),))


@pytest.mark.parametrize(
    ("weights", "says"),
    [({"title": 1.0}, "wrong: "), (dict.fromkeys(RANKINGS["bm25"].weights, 0.0), "weights are above 0")],
)
def test_wrong_weights_are_refused(weights: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Ranking("wrong", weights=weights)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Popularity(-1, 2),
        lambda: Popularity(1, 0.5),
        lambda: Freshness(-1, timedelta(days=3)),
        lambda: Freshness(1, timedelta(hours=3)),
        lambda: Stock(0),
        lambda: Stock(1.5),
        lambda: Taste(2),
    ],
)
def test_a_boost_without_sense_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"at least|above 0|0 to 1"):
        make()


def test_without_boosts_the_query_stays_as_it_is() -> None:
    query = {"match": {"title": "lamp"}}
    assert ranked(query, RANKINGS["bm25"], Context(NOW)) == query


def test_for_a_stranger_the_personal_ranking_is_the_boosted_one() -> None:
    query = {"match": {"title": "lamp"}}
    stranger = Context(NOW)
    assert ranked(query, RANKINGS["personalised"], stranger) == ranked(query, RANKINGS["boosted"], stranger)


def test_equal_requests_within_an_hour_make_equal_queries() -> None:
    query = {"match": {"title": "lamp"}}
    later = Context(NOW + timedelta(minutes=20))
    assert ranked(query, RANKINGS["boosted"], Context(NOW)) == ranked(query, RANKINGS["boosted"], later)


@pytest.mark.parametrize(
    ("boost", "better", "worse"),
    [
        (Popularity(0.1, 2.0), Signals(100, NOW, True), Signals(1, NOW, True)),
        (Freshness(0.2, timedelta(days=30)), Signals(1, NOW, True), Signals(1, NOW - timedelta(days=300), True)),
        (Stock(0.5), Signals(1, NOW, True), Signals(1, NOW, False)),
    ],
)
def test_each_boost_prefers_what_it_is_for(boost: Boost, better: Signals, worse: Signals) -> None:
    assert boost.factor(better, Context(NOW)) > boost.factor(worse, Context(NOW))


def test_taste_fades() -> None:
    bought = [Interaction(Kind.PURCHASE, 7, "fashion/shoes/running", NOW)]
    fresh, old = personal(bought, NOW), personal(bought, NOW + timedelta(days=56))
    assert dict(fresh.brands)[7] == 0.5
    assert 0 < dict(old.brands)[7] < 0.1
    assert dict(fresh.categories) == {"fashion/shoes/running": 0.5, "fashion/shoes": 0.5}


def test_a_purchase_says_more_than_a_click_and_a_click_more_than_a_view() -> None:
    likings = [dict(personal([Interaction(kind, 7, "tools", NOW)], NOW).brands)[7] for kind in Kind]
    assert likings == sorted(likings)
    assert len(set(likings)) == len(likings)


def test_events_of_the_future_say_nothing() -> None:
    assert personal([Interaction(Kind.CLICK, 7, "tools", NOW + timedelta(seconds=1))], NOW).brands == ()


@given(events, st.randoms())
def test_the_order_of_events_does_not_matter(history: list[Interaction], rng: object) -> None:
    shuffled = list(history)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis's Random
    assert personal(history, NOW) == personal(shuffled, NOW)
